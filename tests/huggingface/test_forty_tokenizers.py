"""Forty tokenizers, each from its folder to a corpus, four updates and an export.

Training must have seen what AutoTokenizer makes of the exported folder, in every document, in both
generations of transformers; or the corpus command says in a line what to do, and that does it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from data_prep import build_corpus, tokenization
from data_prep.cli import main
from flexbert.checkpoint.checkpoint_file import checkpoint_file, read_checkpoint
from flexbert.data.format.corpus_format import CorpusMeta
from flexbert.data.reading.corpus import Corpus
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.tokenizer import read_tokenizer
from flexbert.huggingface.tokenizer_agreement import as_transformers_4
from flexbert.recipes import load_recipe
from flexbert.train import run
from tests.conftest import TINY_RECIPE, run_data_prep
from tests.huggingface.forty_tokenizers import FORTY, TEXTS

pytestmark = pytest.mark.slow

DOCUMENTS = [f"{text} {number}" for number in range(6) for text in TEXTS]
MAX_LENGTH = 64


class InThisProcess(Executor):
    """Stands in for the pool of tokenizing processes, each of which takes seconds to start."""

    def __init__(self, processes: int, initargs: tuple[Any, Path, int], **_: Any) -> None:
        tokenization._tokenizer = tokenization.CorpusTokenizer(initargs[1])

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], *arguments: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture(autouse=True)
def nothing_started_or_drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pictures and processes are most of the time, and have tests of their own."""
    monkeypatch.setattr(tokenization, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(build_corpus, "draw_report", lambda *_: None)
    monkeypatch.setattr(run, "_reports", lambda folder: "no reports")
    yield
    vars(tokenization).pop("_tokenizer", None)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    lines = [json.dumps({"text": text}) for text in DOCUMENTS]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_corpus(out: Path, tokenizer: Path, inputs: Path) -> int:
    arguments = ["corpus", "--tokenizer", tokenizer, "--validation", 0.3, "--quiet"]
    return main([str(a) for a in (*arguments, "--workers", 1, "--out", out, inputs)])


def train(corpus: Path, runs: Path) -> Path:
    """Four updates of the smallest model: the run's folder."""
    entries = CorpusMeta.read(corpus).vocab_size
    overrides = [
        f"data={{path: {corpus}, max_length: {MAX_LENGTH}}}",
        f"runs_folder={runs}",
        f"model.vocab_size={-(-entries // 64) * 64}",
        "model.hidden_size=16",
        "model.num_layers=1",
        "duration=4ba",
        "schedule={warmup: 1ba, decay: 1ba}",
        "evaluation={interval: 4ba, rows: 1}",
        "checkpoints.interval=4ba",
        "logging.interval=4ba",
    ]
    loaded = load_recipe(TINY_RECIPE, overrides)
    assert run.train(loaded, command=["test"]) == run.DONE
    return loaded.first.run_folder


def documents_of(corpus: Path) -> list[tuple[int, ...]]:
    """Ids of each document as training sees them, special tokens included; sorted."""
    special = CorpusMeta.read(corpus).special_ids
    found = []
    for name in ("train", "validation"):
        split = Corpus.open(corpus).split(name)
        count, lengths = split.num_documents, np.asarray(split.lengths, np.int64)
        tokens = split.gather(np.arange(count), np.zeros(count, np.int64), lengths)
        found += [
            (special.cls, *ids.tolist(), special.sep)
            for ids in np.split(tokens, np.cumsum(lengths)[:-1])
        ]
    return sorted(found)


@pytest.mark.parametrize("name", FORTY)
def test_training_sees_what_autotokenizer_makes_of_the_export(
    tmp_path: Path, name: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = FORTY[name]
    tokenizer, corpus, exported = (tmp_path / part for part in ("t", "corpus", "exported"))
    made.write(tokenizer)
    if made.differs:
        assert make_corpus(corpus, tokenizer, inputs) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert f"--adapt {tokenizer}/tokenizer.json" in message
        adapted = tokenizer / "tokenizer.json"
        tokenizer = tmp_path / "adapted"
        run_data_prep("tokenizer", "--adapt", adapted, "--out", tokenizer)
    assert make_corpus(corpus, tokenizer, inputs) == 0
    run_folder = train(corpus, tmp_path / "runs")
    assert read_checkpoint(checkpoint_file(run_folder)).training is not None
    export_checkpoint(run_folder, exported)
    seen = documents_of(corpus)
    newer = AutoTokenizer.from_pretrained(exported)
    assert newer.model_max_length == MAX_LENGTH
    given = (newer(text, split_special_tokens=True, verbose=False) for text in DOCUMENTS)
    assert sorted(tuple(one["input_ids"]) for one in given) == seen
    older = as_transformers_4(read_tokenizer(exported, "modernbert"))
    older.encode_special_tokens = True
    assert sorted(tuple(older.encode(text).ids) for text in DOCUMENTS) == seen
