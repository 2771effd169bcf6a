"""Whole corpora of inputs that are compressed, saved or datasets: same documents, safe restarts."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from data_prep.cli import main
from data_prep.encoding import CorpusTokenizer
from flexbert.data.reading.corpus import Corpus
from flexbert.data.reading.split_documents import read_documents

TEXTS = [f"document {number} of many, {number * 7919}" for number in range(60)]


def json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "q": 1}) + "\n" for text in texts).encode()


def tokens(corpus: Path) -> Counter[tuple[int, ...]]:
    opened = Corpus.open(corpus)
    splits = (opened.split(name) for name in ("train", "validation"))
    return Counter(tuple(row.tolist()) for split in splits for row in read_documents(split))


def test_compressed_saved_and_hub_inputs_make_one_corpus(tokenizer: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    packed = tmp_path / "a.jsonl.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(json_lines(TEXTS[:20])))
    saved = datasets.Dataset.from_dict({"text": TEXTS[20:40], "q": [1] * 20})
    saved.save_to_disk(tmp_path / "saved")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "b.jsonl").write_bytes(json_lines(TEXTS[40:]))
    inputs = [str(packed), str(tmp_path / "saved"), f"hf:{tmp_path / 'hub'}"]
    command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path / "c"), "--quiet"]
    command += ["--validation", "0.2", "--label-field", "q", *inputs]
    assert main(command) == 0
    backend = CorpusTokenizer(tokenizer).backend
    expected = [tuple(backend.encode(text, add_special_tokens=False).ids) for text in TEXTS]
    assert tokens(tmp_path / "c") == Counter(expected)
    assert main(command) == 0  # finished: each input is known again


def test_a_corpus_stopped_by_a_truncated_file_is_continued_without_its_rest(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines(TEXTS))
    file = tmp_path / "b.jsonl.gz"
    file.write_bytes(gzip.compress(json_lines([f"{text}!" for text in TEXTS]))[:-8])
    command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path / "c"), "--quiet"]
    command += ["--part-size", "1kb", str(tmp_path / "a.jsonl"), str(file)]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert f"{file}: cut off after" in message
    assert message.count("\n") == 1
    done = list((tmp_path / "c" / "parts").glob("part-*"))
    assert done
    assert main([*command, "--keep-truncated"]) == 0
    report = json.loads((tmp_path / "c" / "report.json").read_text())
    assert report["rejects"] == {"rest of a truncated file": 1}
    assert report["documents"] == 2 * len(TEXTS)
