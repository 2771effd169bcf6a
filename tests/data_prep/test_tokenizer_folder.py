"""A corpus's tokenizer: what AutoTokenizer gives, whole, and with what it does not know counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from data_prep.cli import main
from flexbert.data.format.corpus_format import CorpusMeta
from flexbert.data.reading.corpus import Corpus
from tests.huggingface.forty_tokenizers import FORTY


def write_texts(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make(out: Path, tokenizer: Path, inputs: Path) -> int:
    arguments = ["corpus", "--tokenizer", tokenizer, "--validation", 0.3, "--quiet"]
    return main([str(a) for a in (*arguments, "--workers", 1, "--out", out, inputs)])


def ids_of(corpus: Path) -> list[tuple[int, ...]]:
    found = []
    for name in ("train", "validation"):
        split = Corpus.open(corpus).split(name)
        count, lengths = split.num_documents, np.asarray(split.lengths, np.int64)
        tokens = split.gather(np.arange(count), np.zeros(count, np.int64), lengths)
        found += [tuple(p.tolist()) for p in np.split(tokens, np.cumsum(lengths)[:-1])]
    return found


def test_a_tokenizer_file_alone_is_enough(tmp_path: Path) -> None:
    FORTY["wordpiece lower"].write(tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").unlink()
    inputs = write_texts(tmp_path / "inputs", [f"the cat {n}" for n in range(20)])
    assert make(tmp_path / "corpus", tmp_path / "t", inputs) == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "corpus" / "tokenizer").mask_token == "[MASK]"


def test_a_models_folder_gives_its_tokenizer_alone(tmp_path: Path, tokenizer: Path) -> None:
    shutil.copytree(tokenizer, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "modernbert"}')
    (tmp_path / "model" / "generation_config.json").write_text("{}")
    inputs = write_texts(tmp_path / "inputs", [f"text {n}" for n in range(20)])
    assert make(tmp_path / "corpus", tmp_path / "model", inputs) == 0
    names = {path.name for path in (tmp_path / "corpus" / "tokenizer").iterdir()}
    assert names == set(CorpusMeta.read(tmp_path / "corpus").tokenizer_files)
    assert {"tokenizer.json", "tokenizer_config.json"} == names


def test_text_that_a_tokenizer_does_not_know_is_counted_and_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FORTY["wordpiece lower"].write(tmp_path / "t")
    texts = [f"the cat {'क्या हाल है ' * 3} {n}" for n in range(20)]
    assert make(tmp_path / "corpus", tmp_path / "t", write_texts(tmp_path / "inputs", texts)) == 0
    report = json.loads((tmp_path / "corpus" / "report.json").read_text())
    unknown = CorpusMeta.read(tmp_path / "corpus").special_ids.unk
    counted = sum(ids.count(unknown) for ids in ids_of(tmp_path / "corpus") if unknown)
    assert report["unknown_tokens"] == counted > 0
    assert report["unknown_share"] == report["unknown_tokens"] / report["tokens"]
    assert "of the tokens are unknown" in capsys.readouterr().out


def test_text_that_a_tokenizer_drops_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A BPE of letters without an unknown token leaves out what it has no token for."""
    FORTY["bytes"].write(tmp_path / "t")
    file = tmp_path / "t" / "tokenizer.json"
    state = json.loads(file.read_text())
    state["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    file.write_text(json.dumps(state))
    texts = [f"cat{'क' * (n + 1)}" for n in range(20)]
    assert make(tmp_path / "corpus", tmp_path / "t", write_texts(tmp_path / "inputs", texts)) == 0
    report = json.loads((tmp_path / "corpus" / "report.json").read_text())
    assert report["dropped_share"] > 0.2
    assert "the tokenizer drops" in capsys.readouterr().out


def test_a_corpus_of_unknown_tokens_alone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FORTY["wordpiece lower"].write(tmp_path / "t")
    inputs = write_texts(tmp_path / "inputs", [f"क{'ख' * n}" for n in range(20)])
    assert make(tmp_path / "corpus", tmp_path / "t", inputs) == 2
    assert "there is nothing to predict" in capsys.readouterr().err
