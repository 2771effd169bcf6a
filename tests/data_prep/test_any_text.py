"""One command makes one corpus of whatever text there is, and its report accounts for each row."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from data_prep import phase_progress
from data_prep.cli import main
from data_prep.corpus_manifest import MANIFEST_FILE
from data_prep.encoding import CorpusTokenizer
from data_prep.parts import NOT_RECORDED, Part
from data_prep.phase_progress import PhaseProgress
from flexbert.data.reading.corpus import Corpus
from flexbert.data.reading.split_documents import read_documents

PAGE = """<html><head><title>t</title><style>p {color: red}</style></head>
<body><nav><a href="/">menu</a></nav><main><h1>A page</h1><p>with <b>bold</b> words.</p></main>
<script>var x = 1;</script></body></html>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user's folder holds: seven kinds of text, and what is none."""
    folder = tmp_path_factory.mktemp("any") / "text"
    (folder / ".git").mkdir(parents=True)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "a.txt").write_text("a plain text\nof two lines")
    (folder / "b.tsv").write_text(
        "id\tbody\n" + "".join(f"{n}\tbody {n}\n" for n in range(5)) + "5\n6\t\n"
    )
    lines = [json.dumps({"text": f"line {n}"}) for n in range(30)] + ["{oops", '{"text": "line 0"}']
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    pyarrow.parquet.write_table(
        pa.table({"text": ["row 0", None, "row 2", None, "row 4"]}), folder / "d.parquet"
    )
    (folder / "e.html").write_text(PAGE)
    (folder / "f.html").write_text("<html><body><script>x</script></body></html>")
    (folder / "g.csv").write_text('text,n\n"one, two",1\n"open,2\nthree,3\nline 1,4\n')
    for name in ("README.md", "LICENSE.txt", ".hidden.txt", ".git/x.txt", "data.bin"):
        (folder / name).write_text(f"{name} is no document")
    (folder / ".ipynb_checkpoints" / "n.py").write_text("x = 1")
    return folder


EXPECTED = [
    "a plain text\nof two lines",
    *(f"body {n}" for n in range(5)),
    *(f"line {n}" for n in range(30)),
    *("row 0", "row 2", "row 4"),
    "A page\n\nwith bold words.",
    *("one, two", "three"),
]


def command(folder: Path, tokenizer: Path, out: Path, *options: object) -> list[str]:
    words = ("corpus", "--tokenizer", tokenizer, "--out", out, "--validation", 0.2, *options)
    return [str(word) for word in (*words, folder, f"{folder / 'b.tsv'}:field=body")]


def documents(corpus: Path) -> Counter[tuple[int, ...]]:
    opened = Corpus.open(corpus)
    splits = (opened.split(name) for name in ("train", "validation"))
    return Counter(tuple(row.tolist()) for split in splits for row in read_documents(split))


def report_of(corpus: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((corpus / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def made(folder: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("resiliparse")
    corpus = tmp_path_factory.mktemp("made") / "corpus"
    assert main(command(folder, tokenizer, corpus, "--deduplicate", "--quiet")) == 0
    return corpus


def test_a_folder_of_any_text_becomes_one_corpus(made: Path, tokenizer: Path) -> None:
    backend = CorpusTokenizer(tokenizer).backend
    expected = [tuple(backend.encode(text, add_special_tokens=False).ids) for text in EXPECTED]
    assert documents(made) == Counter(expected)


def test_the_report_accounts_for_every_row_by_input(made: Path, tokenizer: Path) -> None:
    report = report_of(made)
    inputs = report["inputs"]
    found = {
        name: (of["files"], of["rows"], of["documents"], of["duplicates_removed"], of["rejects"])
        for name, of in inputs.items()
    }
    assert found == {
        "text/*.txt": (1, 1, 1, 0, {}),
        "text/*.jsonl.gz": (1, 32, 30, 1, {"invalid JSON": 1}),
        "text/*.parquet": (1, 5, 3, 0, {"text field null": 2}),
        "text/*.html": (2, 2, 1, 0, {"HTML without text": 1}),
        "text/*.csv": (1, 4, 2, 1, {"CSV quote never closed": 1}),
        "b.tsv": (1, 7, 5, 0, {"text field missing": 1, "empty or only whitespace": 1}),
    }
    for of in inputs.values():
        assert of["rows"] == (
            of["documents"] + of["duplicates_removed"] + sum(of["rejects"].values())
        )
        for what in ("documents", "tokens"):
            assert of[what] == sum(split[what] for split in of["splits"].values())
    backend = CorpusTokenizer(tokenizer).backend
    text = EXPECTED[0]
    assert inputs["text/*.txt"]["tokens"] == len(backend.encode(text, add_special_tokens=False).ids)
    assert inputs["text/*.txt"]["characters"] == len(text)
    for what in ("rows", "documents", "tokens", "characters", "unknown_tokens"):
        assert report[what] == sum(of[what] for of in inputs.values())
    rejects = sum((Counter(of["rejects"]) for of in inputs.values()), Counter())
    assert report["rejects"] == rejects
    assert report["skipped_files"] == {
        "(dataset card)": 1,
        "(hidden)": 2,
        "(licence)": 1,
        "(notebook checkpoint)": 1,
        ".bin": 1,
    }


def test_the_report_by_input_is_that_of_merged_tasks(
    folder: Path, made: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [str(tmp_path / f"{number}") for number in range(2)]
    for number, task in enumerate(tasks):
        options = ("--deduplicate", "--quiet", "--task", f"{number}/2")
        assert main(command(folder, tokenizer, Path(task), *options)) == 0
    assert main(["merge", "--out", str(tmp_path / "merged"), "--quiet", *tasks]) == 0
    assert report_of(tmp_path / "merged") == report_of(made)
    assert documents(tmp_path / "merged") == documents(made)
    shown = capsys.readouterr().out
    assert re.search(r"text/\*\.parquet +3 documents, +\d+ tokens; rejected: 2 text field n", shown)


def test_what_an_earlier_version_began_is_continued_as_it_was(
    folder: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest and parts without anything of inputs, hidden files and HTML with its tags."""
    old = tmp_path / "text"
    old.mkdir()
    names = ("a.txt", "c.jsonl.gz", "e.html", ".hidden.txt", "README.md", "b.tsv")
    for name in names:
        (old / name).write_bytes((folder / name).read_bytes())
    base = ["corpus", "--tokenizer", str(tokenizer), "--quiet", "--validation", "0.2"]
    base += ["--part-size", "1kb", str(old), "--out"]
    (old / "b.tsv").rename(tmp_path / "b.tsv")
    options = ["--all-files", "--format", "text"]
    (old / "c.jsonl.gz").rename(tmp_path / "c.jsonl.gz")
    assert main([*base, str(tmp_path / "0"), *options, "--task", "0/2"]) == 0
    assert main([*base, str(tmp_path / "whole"), *options]) == 0
    (tmp_path / "b.tsv").rename(old / "b.tsv")
    begun = tmp_path / "0"
    (begun / "task.json").unlink()
    manifest = json.loads((begun / MANIFEST_FILE).read_text())
    assert {key for file in manifest["files"] for key in file} == {
        *("name", "format", "size", "modified")
    }
    assert manifest["fields"] == {"text": "text", "label": None, "max_characters": 10_000_000}
    (begun / MANIFEST_FILE).write_text(json.dumps({**manifest, "task": "0/1"}))
    for part in (begun / "parts").glob("part-*"):
        counts = json.loads((part / "counts.json").read_text())
        del counts["inputs"], counts["runs"]
        (part / "counts.json").write_text(json.dumps(counts))
        assert list(Part.read(part).inputs) == [NOT_RECORDED]
    assert main([*base, str(begun)]) == 0
    assert documents(begun) == documents(tmp_path / "whole")
    report = report_of(begun)
    assert sum(of["rows"] for of in report["inputs"].values()) == report["rows"]
    assert report["skipped_files"] == {".tsv": 1}
    capsys.readouterr()
    assert main([*base, str(begun)]) == 0
    assert "is complete" in capsys.readouterr().out


def test_own_options_are_part_of_what_a_corpus_is_made_from(
    folder: Path, tokenizer: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(folder, tokenizer, made, "--deduplicate", "--quiet")
    assert main(words) == 0
    words[-1] = f"{folder / 'b.tsv'}:field=id"
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "input b.tsv has changed (fields was" in message
    assert message.count("\n") == 1


def test_labels_of_inputs_stay_with_their_documents(
    folder: Path, tokenizer: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "inputs.yaml"
    listed.write_text(
        f"- {{path: {folder / 'b.tsv'}, text_field: body, label: news}}\n"
        f"- path: {folder / 'c.jsonl.gz'}\n"
        f"- {{path: {folder / 'g.csv'}, label_field: n}}\n"
    )
    out = tmp_path / "c"
    words = ["corpus", "--tokenizer", str(tokenizer), "--out", str(out), "--inputs", str(listed)]
    assert main([*words, "--quiet", "--validation", "0.2"]) == 0
    report = report_of(out)
    labels = {name: of["documents"] for name, of in report["labels"].items()}
    assert labels == {"": 31, "1": 1, "3": 1, "4": 1, "news": 5}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.csv", "id,body\n1,x\n", "b.csv: no column 'text'; known: body, id"),
        ("b.tsv", "id\tbody\n1\tx\n", "b.tsv: no column 'text'; known: body, id"),
        ("b.csv", "id;text\n1;x\n", "a semicolon seems to separate its columns: --delimiter ';'"),
        ("b.csv", "id\ttext\n1\tx\n", "a tab seems to separate its columns: --delimiter 'tab'"),
        ("b.csv", "text,text\nx,y\n", "2 columns have the name 'text'"),
        ("b.jsonl", '[{"text": "x"}]', "a JSON array"),
    ],
)
def test_columns_are_checked_before_anything_is_made(
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    words: str,
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 50)
    (tmp_path / name).write_text(content)
    out = tmp_path / "c"
    base = ["corpus", "--tokenizer", str(tokenizer), "--out", str(out)]
    assert main([*base, str(tmp_path / "a.jsonl"), str(tmp_path / name)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not out.exists()


def test_json_lines_whose_first_lines_lack_the_field_are_told_and_read(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ['{"meta": {"body": 1}}'] * 120 + [f'{{"text": "text {n}"}}' for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    base = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path / "c"), "--quiet"]
    assert main([*base, "--validation", "0.2", str(tmp_path / "a.jsonl")]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert "none of its first 100 rows has the field 'text'" in warning
    assert "meta.body" in warning
    assert report_of(tmp_path / "c")["rejects"] == {"text field missing": 120}


def test_a_log_has_a_line_a_minute_and_says_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phase_progress, "LINE_SECONDS", 0.01)
    there = "2 of 5 parts"
    with PhaseProgress("tokenize", total=5000, done=2000, unit="B", there=there) as shown:
        shown.update(1000)
        shown.ended.wait(0.2)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "tokenize: 2 of 5 parts are there already and are kept"
    assert lines
    assert all(line.startswith("tokenize: 3.00k of 5.00kB (60%), ") for line in lines)
    assert shown.line(10.0).endswith("100B a second, 00:20 to go, 00:10 so far")
    with PhaseProgress("tokenize", total=5, unit="B", there=there, quiet=True) as silent:
        silent.ended.wait(0.05)
    assert capsys.readouterr().err == ""
