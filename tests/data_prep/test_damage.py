"""Kills, damage and mistakes: what was done is kept, what is wrong is said in one line."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.cli import main
from flexbert.data.reading.corpus import Corpus
from flexbert.data.reading.split_documents import read_documents
from tests.conftest import REPOSITORY, run_data_prep


def lengths(corpus: Path, split: str) -> list[int]:
    return Corpus.open(corpus).split(split).lengths.tolist()


def write_jsonl(file: Path, texts: list[str]) -> Path:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_same_command_continues(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"{n} " + "some words " * 300 for n in range(3000)]
    text, out = write_jsonl(tmp_path / "a.jsonl", texts), tmp_path / "c"

    def kill_a_worker() -> None:
        while not list((out / "parts").glob("part-*")):
            time.sleep(0.001)
        multiprocessing.active_children()[0].kill()

    command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(out), "--part-size", "100kb"]
    command += ["--quiet", "--workers", "1", str(text)]
    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    assert main(command) == 2
    thread.join()
    assert "a worker process was killed" in one_line(capsys)
    done = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("part-*")}
    assert done
    assert main(command) == 0
    assert json.loads((out / "report.json").read_text())["documents"] == len(texts)


def test_the_number_of_workers_and_parts_does_not_change_the_documents(
    text: Path, tokenizer: Path, tmp_path: Path
) -> None:
    for name, options in (("one", ("--workers", 1)), ("many", ("--part-size", "30kb"))):
        run_data_prep(
            "corpus", "--tokenizer", tokenizer, "--out", tmp_path / name, "--quiet", *options, text
        )
    for split in ("train", "validation"):
        one, many = (
            list(read_documents(Corpus.open(tmp_path / name).split(split)))
            for name in ("one", "many")
        )
        assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_a_second_writer_is_refused(
    text: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path), str(text)]
        assert main(command) == 2
    assert "being written by another process" in one_line(capsys)


def test_lengths_say_how_long_documents_are(corpus: Path) -> None:
    for split in ("train", "validation"):
        opened = Corpus.open(corpus).split(split)
        assert [len(document) for document in read_documents(opened)] == lengths(corpus, split)


def test_inspect_shows_documents_as_they_were(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"[MASK] of {{document}}\t{n}\u0301 \U0001f680" + "x" * n for n in range(40)]
    text, corpus = write_jsonl(tmp_path / "a.jsonl", texts), tmp_path / "c"
    run_data_prep("corpus", "--tokenizer", tokenizer, "--validation", 0.2, "--out", corpus, text)
    capsys.readouterr()
    shown: list[str] = []
    for split in ("train", "validation"):
        expected = lengths(corpus, split)
        arguments = ["--split", split, "--documents", str(len(expected)), "--json"]
        assert main(["inspect", str(corpus), *arguments]) == 0
        described = json.loads(capsys.readouterr().out)
        assert [sample["tokens"] for sample in described["samples"]] == expected
        assert sum(described["length_histogram"]["documents"]) == len(expected)
        assert sum(described["length_histogram"]["tokens"]) == sum(expected)
        quantiles = described["length_quantiles"]
        assert (quantiles["0%"], quantiles["100%"]) == (min(expected), max(expected))
        shown += [sample["text"] for sample in described["samples"]]
    assert sorted(shown) == sorted(texts)
    assert main(["inspect", str(corpus), "--documents", "0"]) == 0
    assert "--- document" not in capsys.readouterr().out


def test_inspect_names_the_nearest_split(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(corpus), "--split", "valid"]) == 2
    assert "did you mean 'validation'" in one_line(capsys)


# Damaged file, words of the message, what becomes of its bytes.
DAMAGES: dict[str, tuple[str, str, Callable[[bytes], bytes | None]]] = {
    "shard gone": ("train/shard.00000.mds", "No such file", lambda data: None),
    "shard cut": ("train/shard.00000.mds", "bytes, its index says", lambda data: data[:-1]),
    "index gone": ("train/index.json", "No such file", lambda data: None),
    "index garbled": ("train/index.json", "not an MDS index", lambda data: data[:-9]),
    "lengths gone": ("train/lengths.u32", "not the lengths of", lambda data: None),
    "lengths longer": ("train/lengths.u32", "not the lengths of", lambda data: data + b"\0"),
    "lengths shorter": ("train/lengths.u32", "not the lengths of", lambda data: data[:-4]),
    "lengths empty": ("train/lengths.u32", "not the lengths of", lambda data: b""),
    "description gone": ("corpus.json", "not a finished corpus", lambda data: None),
}


def damage(corpus: Path, copy: Path, name: str, change: Callable[[bytes], bytes | None]) -> None:
    shutil.copytree(corpus, copy)
    data = change((copy / name).read_bytes())
    (copy / name).unlink()
    if data is not None:
        (copy / name).write_bytes(data)


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("verify", [[], ["--verify"]])
def test_inspect_says_what_is_damaged(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, verify: list[str]
) -> None:
    name, words, change = DAMAGES[what]
    damage(corpus, tmp_path / "c", name, change)
    assert main(["inspect", str(tmp_path / "c"), *verify]) == 2
    message = one_line(capsys)
    assert words in message
    assert str(tmp_path / "c") in message


def test_verify_compares_the_tokenizer_ids_and_counts(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(data: bytes, **values: object) -> bytes:
        return json.dumps({**json.loads(data), **values}).encode()

    counts = json.loads((corpus / "corpus.json").read_bytes())["splits"]
    counts["train"]["tokens"] += 1
    special = {"cls": 1, "sep": 2, "pad": 3, "mask": 4, "unk": None}
    few = {"vocab_size": 100, "special_ids": special, "reserved_ids": [1, 2, 3, 4]}
    cases: list[tuple[str, str, Callable[[bytes], bytes]]] = [
        ("tokenizer/tokenizer.json", "another tokenizer", lambda data: data + b" "),
        ("corpus.json", "beyond the vocabulary", lambda data: changed(data, **few)),
        ("corpus.json", "corpus.json counts", lambda data: changed(data, splits=counts)),
    ]
    for number, (name, words, change) in enumerate(cases):
        damage(corpus, tmp_path / str(number), name, change)
        assert main(["inspect", str(tmp_path / str(number)), "--verify"]) == 2
        assert words in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--validation", "nan"], "'nan' is not a share"),
        (["--validation", "half"], "'half' is not a share"),
        (["--workers", "0"], "not a positive whole number"),
        (["--shard-size", "0mb"], "'0mb' is not a size"),
        (["--shard-size", "8gb"], "--shard-size: a shard is smaller than 4gb"),
        (
            ["--text-field", "body"],
            "its 9 rows has the field 'body' (--text-field, or INPUT:field=...); known: text",
        ),
        (["--format", "csv"], "--text-field"),
        (["--out", "{tmp}/a.jsonl"], "lies inside the input"),
        (["--out", "{tmp}/a.jsonl/c"], "lies inside the input"),
        (["--out", "{tmp}/file"], "File exists"),
        (["--out", "{tmp}/file/c"], "Not a directory"),
        (["--tokenizer", "{tmp}/broken"], "tokenizer_config.json: not readable as JSON"),
        (["{tmp}/file"], "unknown file type"),
        (["{tmp}/a.jsonl"], "twice"),
        (["{tmp}/missing"], "no such file or folder"),
        ([], "no document is left for train"),  # nine times the same
        (["--task", "4/4"], "of four, they are 0/4, 1/4, 2/4 and 3/4"),
        (["--task", "one"], "'one' is not a task"),
    ],
)
def test_a_wrong_corpus_command_is_one_line(
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["same"] * 9)
    (tmp_path / "file").write_text("x")
    shutil.copytree(tokenizer, tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer_config.json").write_text("{")
    command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path / "c"), "--quiet"]
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    assert main([*command, str(tmp_path / "a.jsonl"), *filled]) == 2
    assert words in one_line(capsys)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], "COMMAND"),
        (["corpora"], "invalid choice: 'corpora'"),
        (["demo", "--out", "{tmp}/file"], "File exists"),
        (["inspect", "{tmp}"], "not a finished corpus"),
        (["inspect", "{tmp}/none"], "does not exist"),
        (["baseline", "{tmp}/none"], "does not exist"),
        (["merge", "--out", "{tmp}/c", "{tmp}/none"], "is no task of a corpus"),
        (["merge", "--out", "{tmp}/c"], "FOLDER"),
        (["inspect", "{tmp}", "--documents", "-1"], "--documents"),
        (["tokenizer", "--out", "{tmp}/t"], "give INPUT"),
        (["tokenizer", "--out", "{tmp}/t", "--adapt", "x", "{text}"], "--adapt takes no INPUT"),
        (["tokenizer", "--out", "{tmp}/t", "{tmp}/blank.txt"], "no usable text"),
        (["tokenizer", "--out", "{tmp}/t", "{tmp}/empty"], "no file that can be read"),
    ],
)
def test_a_wrong_command_is_one_line(
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    words: str,
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "empty").mkdir()
    assert main([argument.format(tmp=tmp_path, text=text) for argument in command]) == 2
    assert words in one_line(capsys)


def test_the_command_itself_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_prep", "inspect", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_what_is_no_document_at_all_is_listed_and_begun_again(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n' * 9)
    command = ["corpus", "--tokenizer", tokenizer, "--out", tmp_path / "c", "--validation", 0.2]
    command = [str(word) for word in (*command, "--quiet", tmp_path / "a.jsonl")]
    assert main(command) == 2
    assert "rejected rows: 9 text field null" in one_line(capsys)
    write_jsonl(tmp_path / "a.jsonl", [f"document {n}" for n in range(40)])
    assert main(command) == 0


def test_a_command_that_made_nothing_does_not_stand_in_the_way(
    tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"body": f"document {n}"}) for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    command = ["corpus", "--tokenizer", tokenizer, "--out", tmp_path / "c", "--validation", 0.2]
    command = [str(word) for word in (*command, "--quiet", tmp_path / "a.jsonl")]
    assert main(command) == 2
    assert "of its 40 rows has the field 'text' (--text-field, or INPUT:field=...)" in one_line(
        capsys
    )
    assert main([*command, "--text-field", "body"]) == 0
    assert Corpus.open(tmp_path / "c").meta.splits["train"].documents > 20


def test_a_merge_does_not_write_into_the_folder_of_a_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [str(tmp_path / "s0"), str(tmp_path / "s1")]
    assert main(["merge", "--out", tasks[1], *tasks]) == 2
    assert "s1 is one of the tasks; give a folder of its own" in capsys.readouterr().err
