"""What tests of whole runs share: a small real corpus, and a small recipe for it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the machine's cores. Threads that wait for each other by spinning would
    # slow all of them many times over, so each has its part; read when torch is first imported.
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))

from data_prep.cli import main as data_prep

REPOSITORY = Path(__file__).parent.parent
TINY_RECIPE = REPOSITORY / "tests" / "integration" / "tiny.yaml"
VOCAB_SIZE = 512

Overrides = Callable[..., list[str]]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_sources(folder)
    return folder


def write_sources(folder: Path) -> None:
    """Real text that is on every machine: sources of the standard library, in small documents."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for module in (argparse, json, textwrap, typing):
        source = Path(module.__file__).read_text(encoding="utf-8")
        lines += [json.dumps({"text": part}) for part in source.split("\n\n\n") if part.strip()]
    (folder / "sources.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model's checkpoint, of weights alone."""
    from flexbert.checkpoint.checkpoint import Checkpoint
    from flexbert.checkpoint.checkpoint_file import write_checkpoint
    from flexbert.config.encode import encode
    from tests.checkpoint.tiling_cases import modernbert
    from tests.huggingface.cases import random_model

    config = modernbert()
    path = tmp_path_factory.mktemp("trained") / "model.pt"
    recipe = {"model": encode(config), "data": {"max_length": 32}}
    weights = random_model(config).state_dict()
    write_checkpoint(path, Checkpoint(recipe=recipe, tokenizer={}, model=weights))
    return path


def completed(recipe: Path, trained: Path) -> list[str]:
    """What a recipe that is shipped asks for, apart from its corpus."""
    return [f"init_from.checkpoint={trained}"] if recipe.stem == "adapt" else []


@pytest.fixture(scope="session")
def tokenizer(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    run_data_prep("tokenizer", "--vocab-size", VOCAB_SIZE, "--unused", 8, "--out", folder, text)
    return folder


@pytest.fixture(scope="session")
def corpus(text: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    run_data_prep(
        "corpus", "--tokenizer", tokenizer, "--validation", 0.1, "--out", folder, text, "--quiet"
    )
    return folder


@pytest.fixture
def tiny(corpus: Path, tmp_path: Path) -> Overrides:
    """Overrides that run the tiny recipe on the corpus, in this test's own folder."""

    def overrides(*more: str) -> list[str]:
        return [f"data.path={corpus}", f"runs_folder={tmp_path / 'runs'}", *more]

    return overrides


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is refused here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def run_data_prep(*arguments: object) -> None:
    assert data_prep([str(argument) for argument in arguments]) == 0


def read_records(run_folder: Path, event: str | None = None) -> Sequence[dict[str, typing.Any]]:
    """The records of a run, or those of one event."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if event in (None, record["event"])]
