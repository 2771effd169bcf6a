"""Corpora changed at random: each is read, inspected and planned with, or refused in one line.

``FLEXBERT_FUZZ_EXAMPLES=500 python -m pytest tests/fuzz/test_corpora.py`` tries as many new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.cli import main as data_prep
from flexbert.commands import main
from flexbert.config.data import DataConfig
from flexbert.data.format.corpus_format import TOKENIZER_FOLDER
from flexbert.data.format.mds import hash_file
from flexbert.data.reading.corpora import Corpora
from flexbert.data.sampling.samplers import PermutationConfig
from tests.conftest import TINY_RECIPE
from tests.data.corpora import loader_of_splits
from tests.fuzz.mutations import PLAIN, mutated, mutated_bytes
from tests.fuzz.outcomes import exit_of, fuzz_settings, refusal

TEXTS = ["corpus.json", "train/index.json", "tokenizer/tokenizer_config.json"]
FILES = [
    *TEXTS,
    "train/lengths.u32",
    "train/shard.00000.mds",
    "validation/index.json",
    "validation/lengths.u32",
    "validation/shard.00000.mds",
    "tokenizer/tokenizer.json",
]
INSERTS = st.sampled_from([b"\xff" * 4, b"\x00" * 4, b"[" * 3000, b"{", b'"', b"1e999", b"NaN"])
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
NO_NAMES = ["/dev/zero", "../../x", "../validation/shard.00000.mds", "a/b", "..", ".", "", "x\0", 7]
Change = Callable[[Path], object]


def write_bytes(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def replace_by(name: str, kind: str) -> Change:
    """Something else in place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "folder":
            (folder / name).mkdir()
        elif kind != "nothing":
            (folder / name).symlink_to(kind)

    return change


@st.composite
def changes(draw: st.DrawFn, corpus: Path) -> Change:
    kind = draw(st.sampled_from(["tree", "tree", "bytes", "kind"]))
    name = draw(st.sampled_from(TEXTS if kind == "tree" else FILES))
    if kind == "kind":
        return replace_by(
            name, draw(st.sampled_from(["pipe", "folder", "nothing", "/dev/zero", "/dev/null"]))
        )
    data = (corpus / name).read_bytes()
    if kind == "bytes":
        return write_bytes(name, draw(mutated_bytes(data, INSERTS)))
    tree = draw(mutated(json.loads(data), PLAIN))
    return write_bytes(name, json.dumps(tree).encode("utf-8", "surrogatepass"))


def make_consistent(folder: Path) -> None:
    """Let hashes and sizes be those of the files, as whoever attacks would."""
    for split in ("train", "validation"):
        index = json.loads((folder / split / "index.json").read_bytes())
        for entry in index["shards"]:
            file = folder / split / entry["raw_data"]["basename"]
            entry["raw_data"]["bytes"] = file.stat().st_size
            entry["raw_data"]["hashes"]["xxh3_64"] = hash_file(file)
        (folder / split / "index.json").write_text(json.dumps(index))
    meta = json.loads((folder / "corpus.json").read_bytes())
    tokenizer = (folder / "tokenizer" / "tokenizer.json").read_bytes()
    meta["tokenizer_sha256"] = hashlib.sha256(tokenizer).hexdigest()
    (folder / "corpus.json").write_text(json.dumps(meta))


def read_batches(folder: Path, cache: Path) -> None:
    config = DataConfig(
        path=folder,
        sampler=PermutationConfig(),
        mask_rate=0.3,
        max_length=64,
        row_length=128,
        packing_window=50,
        num_workers=0,
        cache=cache,
    )
    corpora = Corpora.open(config)
    assert all(isinstance(text, str) for text in corpora.tokenizer.values())
    corpora.splits("validation")
    loader = loader_of_splits(
        corpora.splits("train"),
        config,
        rows_per_update=lambda update: 4,
        microbatch_rows=2,
        rank=0,
        world_size=1,
    )
    for batch in itertools.islice(loader, 3):
        assert batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def check(corpus: Path, folder: Path, change: Change, consistent: bool) -> str | None:
    """Why it is not read."""
    copied, cache = folder / "corpus", folder / "cache"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(corpus, copied)
    change(copied)
    if consistent and all((copied / name).is_file() for name in FILES):
        # Where it cannot be made to look consistent, it stays as it is.
        with contextlib.suppress(OSError, *MALFORMED):
            make_consistent(copied)
    message = refusal(lambda: read_batches(copied, cache))
    exit_of(data_prep, "inspect", copied)
    exit_of(data_prep, "inspect", copied, "--verify", "--json")
    exit_of(main, "plan", TINY_RECIPE, f"data.path={copied}", f"data.cache={cache}")
    return message


def test_a_sound_corpus_is_read(corpus: Path, folder: Path) -> None:
    assert refusal(lambda: read_batches(corpus, folder / "sound")) is None
    assert exit_of(data_prep, "inspect", corpus, "--verify") == 0
    assert exit_of(main, "plan", TINY_RECIPE, f"data.path={corpus}") == 0


@pytest.mark.slow
@fuzz_settings(30)
@given(st.data(), st.booleans())
def test_a_changed_corpus_is_read_or_refused(
    corpus: Path, folder: Path, data: st.DataObject, consistent: bool
) -> None:
    check(corpus, folder, data.draw(changes(corpus)), consistent)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/null", "folder", "nothing"])
def test_what_is_no_file_is_refused_at_once(
    corpus: Path, folder: Path, name: str, kind: str
) -> None:
    message = check(corpus, folder, replace_by(name, kind), consistent=False)
    assert message is not None
    assert Path(name).name in message or TOKENIZER_FOLDER in message


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_shard_lies_in_its_folder(corpus: Path, folder: Path, name: Any) -> None:
    def rename(copied: Path) -> None:
        index = json.loads((copied / "train" / "index.json").read_bytes())
        index["shards"][0]["raw_data"]["basename"] = name
        (copied / "train" / "index.json").write_text(json.dumps(index))

    copied = folder / "renamed"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(corpus, copied)
    rename(copied)
    message = refusal(lambda: read_batches(copied, folder / "cache"))
    assert message is not None
    assert "no file of this folder" in message
