"""Files of one JSON object a line, with several who add to them and with kills."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from pathlib import Path

import pytest

from flexbert.files import line_file
from flexbert.files.durable import WriteError
from flexbert.files.line_file import append_line, json_line


def lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_json_does_not_have_becomes_null() -> None:
    line = json_line({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": "é"}, "e": (1,)})
    assert line.endswith(b"\n")
    assert json.loads(line) == {"a": None, "b": [None, 1.5], "c": {"d": "é"}, "e": [1]}


def test_the_folder_is_made_and_lines_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    for number in range(3):
        append_line(path, json_line(number))
    assert lines(path) == [0, 1, 2]


def test_a_line_that_was_cut_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": ')
    append_line(path, json_line({"a": 3}))
    assert path.read_bytes() == b'{"a": 1}\n{"a": \n{"a": 3}\n'


def _append(path: Path, begin: int) -> None:
    for number in range(begin, begin + 50):
        append_line(path, json_line({"number": number, "text": "x" * 20_000}))


def test_two_processes_that_add_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    # Both make the file, too: neither takes it from the other.
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(path, begin)) for begin in (0, 50)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert sorted(numbers) == list(range(100))
    assert [n for n in numbers if n < 50] == list(range(50))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, json_line(1))

    def write(descriptor: int, content: bytes) -> int:
        if len(content) > 5:
            return real(descriptor, content[:5])
        raise OSError(28, "No space left on device")

    real = os.write
    monkeypatch.setattr(line_file.os, "write", write)
    with pytest.raises(WriteError, match=r"lines.jsonl: cannot be written: No space left"):
        append_line(path, json_line("a long line"))
    monkeypatch.undo()
    append_line(path, json_line(2))
    assert lines(path) == [1, 2]
