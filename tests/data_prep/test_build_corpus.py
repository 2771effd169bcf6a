"""Corpora: every format, every bad row accounted for, safe from kills, splits apart."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from streaming import StreamingDataset
from transformers import AutoTokenizer

from data_prep.cli import main
from data_prep.spans import SPAN, span_overlap
from flexbert.data.reading.corpus import Corpus
from tests.conftest import run_data_prep

TEXTS = [
    'first, "quoted" and\nof two lines',
    "second [MASK] with a [CLS] in it",
    "third \u00e9\u4f60\U0001f680\ttab",
    *(f"document number {number} of many, {number * 7919}" for number in range(40)),
]


def make(out: Path, tokenizer: Path, *inputs: Path, **options: object) -> Path:
    flags = [part for key, value in options.items() for part in (f"--{key}", value)]
    run_data_prep("corpus", "--tokenizer", tokenizer, "--out", out, "--quiet", *flags, *inputs)
    return out


def documents(corpus: Path, split: str) -> list[tuple[int, ...]]:
    reader = Corpus.open(corpus).split(split)
    count = reader.num_documents
    tokens = reader.gather(np.arange(count), np.zeros(count, np.int64), np.asarray(reader.lengths))
    parts = np.split(tokens, np.cumsum(reader.lengths)[:-1])
    return [tuple(part.tolist()) for part in parts]


def everything(corpus: Path) -> Counter[tuple[int, ...]]:
    return Counter(documents(corpus, "train") + documents(corpus, "validation"))


def files(corpus: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(corpus)): path.read_bytes()
        for path in sorted(corpus.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same documents in every format."""
    folder = tmp_path_factory.mktemp("formats")
    for number, text in enumerate(TEXTS):
        file = folder / "tree" / f"{number % 3}" / f"{number:03}.{('txt', 'md', 'py')[number % 3]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": t, "n": 1}) + "\n" for t in TEXTS))
    pyarrow.parquet.write_table(
        pa.table({"n": range(len(TEXTS)), "text": TEXTS}), folder / "a.parquet"
    )
    with (folder / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "text"])
        writer.writerows(enumerate(TEXTS))
    return {
        "tree": folder / "tree",
        "jsonl": folder / "a.jsonl",
        "parquet": folder / "a.parquet",
        "csv": folder / "a.csv",
    }


@pytest.mark.parametrize("name", ["tree", "jsonl", "parquet", "csv"])
def test_every_format_gives_the_same_documents(
    inputs: dict[str, Path], tokenizer: Path, tmp_path: Path, name: str
) -> None:
    corpus = make(tmp_path / "c", tokenizer, inputs[name], validation=0.2)
    backend = AutoTokenizer.from_pretrained(tokenizer)
    expected = Counter(
        tuple(backend(t, add_special_tokens=False, split_special_tokens=True).input_ids)
        for t in TEXTS
    )
    assert everything(corpus) == expected
    special = set(backend.all_special_ids)
    assert not any(special & set(document) for document in expected)


def test_streaming_reads_the_same_tokens(corpus: Path) -> None:
    for split in ("train", "validation"):
        dataset = StreamingDataset(local=str(corpus / split), shuffle=False, batch_size=1)
        read = [tuple(sample["tokens"].tolist()) for sample in dataset]
        assert read == documents(corpus, split)


def test_bad_rows_are_counted_by_reason_and_the_rest_is_kept(
    tokenizer: Path, tmp_path: Path
) -> None:
    rows = [json.dumps({"text": text}).encode() for text in TEXTS]
    bad = {
        "invalid JSON": [b"{oops"],
        "not a JSON object": [b"[1]"],
        "text field missing": [b"{}"],
        "text field null": [b'{"text": null}'],
        "text field not a string": [b'{"text": 3}'],
        "empty or only whitespace": [b"", b'{"text": ""}', b'{"text": " \\n"}'],
        "invalid UTF-8": [b'{"text": "\xff"}'],
    }
    lines = [
        row
        for pair in zip(rows, sum(bad.values(), [b'{"text": "last"}']), strict=False)
        for row in pair
    ]
    lines += rows[len(lines) // 2 :]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    corpus = make(tmp_path / "c", tokenizer, tmp_path / "a.jsonl", validation=0.2)
    report = json.loads((corpus / "report.json").read_text())
    rejected: dict[str, int] = next(v for k, v in report.items() if "reject" in k)
    assert sum(rejected.values()) + sum(everything(corpus).values()) == len(lines)
    assert rejected == {reason: len(examples) for reason, examples in bad.items()}


def test_equal_documents_are_in_one_split_and_none_in_both(tokenizer: Path, tmp_path: Path) -> None:
    repeated = [text for text in TEXTS for _ in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in repeated))
    corpus = make(tmp_path / "c", tokenizer, tmp_path / "a.jsonl", validation=0.3)
    train, validation = (
        Counter(documents(corpus, "train")),
        Counter(documents(corpus, "validation")),
    )
    assert train
    assert validation
    assert not train.keys() & validation.keys()
    assert set((train + validation).values()) == {3}


def test_a_small_corpus_has_a_validation_split_too(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    corpus = make(tmp_path / "c", tokenizer, tmp_path / "a.jsonl", validation=0.01)
    assert len(documents(corpus, "validation")) == 1


def test_span_overlap_equals_looking_for_every_span() -> None:
    random = np.random.default_rng(0)
    train = [random.integers(10, 5000, n).astype(np.uint16) for n in (400, 30, 700, 50)]
    validation = [
        np.concatenate([random.integers(10, 5000, 60), train[0][100:260]]).astype(np.uint16),
        train[3],
        random.integers(10, 5000, 120).astype(np.uint16),
        train[1],
    ]

    def spans(document: np.ndarray) -> list[bytes]:
        return [document[i : i + SPAN].tobytes() for i in range(len(document) - SPAN + 1)]

    def block(*some: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.concatenate(some), np.array([len(document) for document in some], np.uint32))]

    known = {span for document in train for span in spans(document)}
    expected = [span in known for document in validation for span in spans(document)]
    parts = [lambda: block(*train[:1]), lambda: block(*train[1:])]
    overlap = span_overlap(parts, lambda: block(*validation), workers=2)
    assert (overlap.checked, overlap.shared) == (len(expected), sum(expected))
    assert 0 < overlap.share < 1


def test_a_finished_corpus_says_so_and_other_settings_are_refused(
    inputs: dict[str, Path], tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make(tmp_path / "c", tokenizer, inputs["jsonl"], validation=0.2)
    before = files(corpus)
    make(corpus, tokenizer, inputs["jsonl"], validation=0.2)
    assert "is complete" in capsys.readouterr().out
    base = ["corpus", "--tokenizer", str(tokenizer), "--out", str(corpus)]
    assert main([*base, "--validation", "0.3", str(inputs["jsonl"])]) == 2
    assert "validation" in capsys.readouterr().err
    assert main([*base, "--validation", "0.2", str(inputs["csv"])]) == 2
    assert "a.csv" in capsys.readouterr().err
    assert files(corpus) == before


def test_inspect_describes_and_verifies(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(corpus), "--documents", "1", "--verify", "--json"]) == 0
    described: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert described["verified"] is True
    assert main(["inspect", str(corpus), "--split", "validation", "--verify"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("verified")
    assert "validation" in shown


@pytest.mark.parametrize("damage", ["flip", "cut", "lengths"])
def test_verify_names_the_damaged_file(
    inputs: dict[str, Path],
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    corpus = make(tmp_path / "c", tokenizer, inputs["jsonl"], validation=0.2)
    file = corpus / "train" / ("lengths.u32" if damage == "lengths" else "shard.00000.mds")
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[-5:]
    else:
        data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(["inspect", str(corpus), "--verify"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(corpus / "train") in message


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("", [], ["no usable document"]),
        ("[1, 2]", [], ["JSON array"]),
        ('{"text": "a"}\n', ["--validation", "2"], ["2"]),
        ('{"text": "a"}\n', ["--shard-size", "many"], ["many"]),
        ('{"text": "a"}\n', ["--tokenizer", "nowhere"], ["nowhere", "data_prep tokenizer"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    arguments: list[str],
    words: list[str],
) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    base = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path / "c"), "--quiet"]
    assert main([*base, *arguments, str(tmp_path / "a.jsonl")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert all(word in message for word in words), message


@pytest.mark.slow
def test_the_demo_holds_ten_megabytes_and_is_the_same_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_data_prep("demo", "--out", tmp_path / name)
    one, two = ((tmp_path / name / "demo.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    texts = [json.loads(line)["text"] for line in one.splitlines()]
    assert sum(map(len, texts)) > 10_000_000
    assert len(set(texts)) == len(texts)
