"""The report accounts for every row, document and token; labels keep their documents."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.cli import main
from data_prep.corpus_pictures import draw_report
from data_prep.survey import BINS, CONTEXT_LENGTHS, LengthCounts
from flexbert.data.format.corpus_format import CorpusMeta
from flexbert.data.reading.corpus import Corpus
from flexbert.data.reading.split_documents import read_documents
from tests.conftest import run_data_prep

LABELS = ["good", "poor", None, "fair \u00e9"]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def make(out: Path, tokenizer: Path, rows: Path, *options: object) -> dict[str, Any]:
    arguments = ["--tokenizer", tokenizer, "--out", out, "--quiet", "--validation", 0.2]
    run_data_prep("corpus", *arguments, *options, rows)
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def documents(corpus: Path) -> list[tuple[tuple[int, ...], str | None]]:
    """(tokens, label) of every document of both splits."""
    opened = Corpus.open(corpus)
    found = []
    for name in ("train", "validation"):
        split = opened.split(name)
        names = [opened.meta.labels[n] for n in split.labels] or [None] * split.num_documents
        for tokens, label in zip(read_documents(split), names, strict=True):
            found.append((tuple(tokens.tolist()), label))
    return found


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    numbers = [*range(60), 3, 3, 50]
    return [{"text": f"text {n} " + "word " * n, "quality": LABELS[n % 4]} for n in numbers]


@pytest.mark.slow
def test_labels_stay_with_their_documents_whatever_the_parts(
    tokenizer: Path, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", rows)
    options = ("--label-field", "quality")
    report = make(tmp_path / "one", tokenizer, file, *options)
    make(tmp_path / "many", tokenizer, file, *options, "--part-size", "1kb", "--workers", 1)
    meta = CorpusMeta.read(tmp_path / "one")
    assert meta.labels == ("", "fair \u00e9", "good", "poor")
    for split in ("train", "validation"):
        one, many = (tmp_path / name / split / "labels.u8" for name in ("one", "many"))
        assert one.read_bytes() == many.read_bytes()
    assert CorpusMeta.read(tmp_path / "many").labels == meta.labels
    make(tmp_path / "plain", tokenizer, file)
    assert [tokens for tokens, _ in documents(tmp_path / "one")] == [
        tokens for tokens, _ in documents(tmp_path / "plain")
    ]
    counts = Counter(label for _, label in documents(tmp_path / "one"))
    assert counts == Counter(row["quality"] or "" for row in rows)
    assert {name: found["documents"] for name, found in report["labels"].items()} == counts
    assert sum(found["tokens"] for found in report["labels"].values()) == report["tokens"]


def test_without_a_label_field_there_are_no_labels(corpus: Path) -> None:
    assert CorpusMeta.read(corpus).labels == ()
    assert not list(corpus.rglob("labels.u8"))
    assert "labels" not in json.loads((corpus / "report.json").read_text())


@pytest.mark.parametrize("part_size", ["1kb", "1mb"])
def test_too_many_labels_are_one_line(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part_size: str
) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"text": f"a {n}", "url": n} for n in range(257)])
    command = ["corpus", "--tokenizer", tokenizer, "--out", tmp_path / "c", "--quiet", file]
    options = ["--label-field", "url", "--part-size", part_size]
    assert main(list(map(str, [*command, *options]))) == 2
    message = capsys.readouterr().err
    assert "--label-field url: more than 256 different labels" in message
    assert message.count("\n") == 1


def test_256_labels_are_not_too_many(tokenizer: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a {n}", "url": n % 256} for n in range(300)]
    make(tmp_path / "c", tokenizer, write_rows(tmp_path / "a.jsonl", rows), "--label-field", "url")
    counts = Counter(label for _, label in documents(tmp_path / "c"))
    assert counts == Counter(str(row["url"]) for row in rows)


def test_a_label_field_that_no_row_has_is_told(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"text": f"a {n}"} for n in range(50)])
    make(tmp_path / "c", tokenizer, file, "--label-field", "qualty")
    assert "no document has a label" in capsys.readouterr().out


def test_inspect_tells_the_labels(
    tokenizer: Path, tmp_path: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", rows)
    make(tmp_path / "c", tokenizer, file, "--label-field", "quality")
    capsys.readouterr()
    labels: Counter[str] = Counter()
    for split in ("train", "validation"):
        assert main(["inspect", str(tmp_path / "c"), "--split", split, "--json", "--verify"]) == 0
        described = json.loads(capsys.readouterr().out)
        labels.update({name: of["documents"] for name, of in described["labels"].items()})
    assert labels == Counter(row["quality"] or "" for row in rows)
    (tmp_path / "c" / "train" / "labels.u8").write_bytes(b"\0")
    assert main(["inspect", str(tmp_path / "c")]) == 2
    assert "not the labels of" in capsys.readouterr().err


def test_verify_finds_a_label_that_has_no_name(
    tokenizer: Path, tmp_path: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", rows)
    make(tmp_path / "c", tokenizer, file, "--label-field", "quality")
    labels = tmp_path / "c" / "train" / "labels.u8"
    labels.write_bytes(b"\x04" + labels.read_bytes()[1:])
    assert main(["inspect", str(tmp_path / "c"), "--verify"]) == 2
    assert "labels that corpus.json lacks" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--deduplicate",)])
def test_every_row_is_accounted_for(
    tokenizer: Path, tmp_path: Path, rows: list[dict[str, Any]], options: tuple[str, ...]
) -> None:
    bad: list[dict[str, Any]] = [{"text": None}, {"text": ""}, {"txt": "a"}]
    file = write_rows(tmp_path / "a.jsonl", [*rows[:30], *bad, *rows[30:]])
    report = make(tmp_path / "c", tokenizer, file, *options)
    duplicates, removed = report["duplicates"], bool(options)
    lengths = {rows[n]["text"]: n for n in range(60)}
    assert duplicates["documents"] == 3
    assert duplicates["removed"] is removed
    found = documents(tmp_path / "c")
    assert report["documents"] == len(found) == len(rows) - 3 * removed
    assert report["rows"] == len(rows) + len(bad)
    assert report["rows"] == (report["documents"] + sum(report["rejects"].values()) + 3 * removed)
    assert sum(map(len, (tokens for tokens, _ in found))) == report["tokens"]
    assert len({tokens for tokens, _ in found}) == len(lengths) == 60
    plain = make(tmp_path / "p", tokenizer, file)
    assert plain["tokens"] == report["tokens"] + duplicates["tokens"] * removed
    assert plain["characters_per_token"] == report["characters_per_token"]


def test_the_first_of_equal_documents_is_kept(
    tokenizer: Path, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    for name, some in (("all", rows), ("first", rows[:60])):
        file = write_rows(tmp_path / f"{name}.jsonl", some)
        make(tmp_path / name, tokenizer, file, "--deduplicate", "--label-field", "quality")
    assert documents(tmp_path / "all") == documents(tmp_path / "first")


def test_length_counts_are_those_of_a_plain_count() -> None:
    random = np.random.default_rng(0)
    lengths = np.concatenate([random.integers(1, 20_000, 999), [1, 2, 3, 512, 513, 1 << 20]])
    counts = LengthCounts()
    for block in np.array_split(lengths.astype(np.uint32), 7):
        counts.add(block)
    histogram = counts.histogram()
    bins = histogram["bins"]
    assert set(bins) <= {*BINS.tolist(), 1 << 32}
    for number, (begin, end) in enumerate(pairwise(bins)):
        inside = lengths[(lengths >= begin) & (lengths < end)]
        assert histogram["documents"][number] == len(inside)
        assert histogram["tokens"][number] == inside.sum()
    assert sum(histogram["documents"]) == len(lengths)
    for context in CONTEXT_LENGTHS:
        longer = lengths[lengths > context]
        assert counts.long_documents()[str(context)] == {
            "documents": len(longer),
            "tokens": longer.sum(),
            "token_share": longer.sum() / lengths.sum(),
        }


def test_few_held_out_documents_are_told(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"text": f"a {n}"} for n in range(400)])
    report = make(tmp_path / "many", tokenizer, file)
    assert report["splits"]["validation"]["documents"] >= 30
    assert "warning" not in capsys.readouterr().out
    file = write_rows(tmp_path / "b.jsonl", [{"text": f"a {n}"} for n in range(40)])
    make(tmp_path / "few", tokenizer, file)
    assert "too few for a loss to trust" in capsys.readouterr().out


def test_the_picture_is_drawn_the_same_each_time(corpus: Path, tmp_path: Path) -> None:
    report = json.loads((corpus / "report.json").read_text())
    draw_report(report, tmp_path)
    picture = (tmp_path / "report.png").read_bytes()
    assert picture == (corpus / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert b"Matplotlib" not in picture


def test_a_picture_of_much_of_everything_is_drawn(corpus: Path, tmp_path: Path) -> None:
    report = json.loads((corpus / "report.json").read_text())
    counts = {"documents": 7, "tokens": 99}
    report["labels"] = {f"${n} " + "a very long name of a label" * 3: counts for n in range(256)}
    report["rejects"] = {f"reason {n}": n for n in range(14)}
    draw_report(report, tmp_path)
    assert (tmp_path / "report.png").stat().st_size > 10_000
