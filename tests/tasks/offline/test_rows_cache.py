"""Rows on disk: made once, whole or not there, made again where they are damaged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from flexbert.errors import UserError
from flexbert.files import durable
from flexbert.tasks.offline import rows_cache
from flexbert.tasks.offline.rows_cache import MadeRows, cached_rows, user_cache

MADE: MadeRows = {
    "one": {"train": [{"text": "a\u2028b ü\n", "label": 1}], "test": []},
    "two": {"train": [{"tokens": ["x"], "score": 0.5}], "test": [{"tokens": [], "score": 1.0}]},
}
FORK = multiprocessing.get_context("fork")


def make() -> MadeRows:
    return MADE


def refuse() -> MadeRows:
    raise AssertionError("made again")


def read_all(folder: Path) -> MadeRows:
    return {
        task: {split: cached_rows(folder, task, split, refuse) for split in splits}
        for task, splits in MADE.items()
    }


def test_all_rows_are_made_at_once_and_read_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert cached_rows(folder, "two", "test", make) == MADE["two"]["test"]
    assert read_all(folder) == MADE


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "folder", "gone", "link"])
def test_a_damaged_file_is_made_again_and_others_stay(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cached_rows(tmp_path, "one", "train", make)
    file, other = tmp_path / "one-train.jsonl", tmp_path / "two-train.jsonl"
    before, content = other.stat(), file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-3])
    elif damage == "flipped":
        file.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif damage in ("empty", "text"):
        file.write_text("" if damage == "empty" else "[1]\n[2]\n")
    else:
        file.unlink()
        if damage == "folder":
            file.mkdir()
        if damage == "link":
            file.symlink_to(tmp_path / "nowhere")
    assert cached_rows(tmp_path, "one", "train", make) == MADE["one"]["train"]
    assert file.read_bytes() == content
    assert other.stat() == before
    assert read_all(tmp_path) == MADE
    warned = capsys.readouterr().err
    assert warned.count("damaged; it is made again") == (damage != "gone")


def write_a_line(folder: Path, begun: Path) -> None:
    def slowly() -> MadeRows:
        with begun.open("a") as file:
            file.write("made\n")
        time.sleep(0.3)
        return MADE

    assert cached_rows(folder, "one", "train", slowly) == MADE["one"]["train"]


def test_of_several_processes_one_makes_the_rows(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    processes = [
        FORK.Process(target=write_a_line, args=(tmp_path / "rows", begun)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert begun.read_text() == "made\n"
    assert read_all(tmp_path / "rows") == MADE


def killed_at(folder: Path, moment: int) -> None:
    """Kills itself before the given one of all files takes its name, or in the middle of it."""
    count = 0
    hand_over = durable.hand_to_disk

    def counted(file: object) -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        hand_over(file)  # type: ignore[arg-type]

    durable.hand_to_disk = counted  # type: ignore[assignment]
    cached_rows(folder, "one", "train", make)


@pytest.mark.parametrize("moment", [1, 2, 4])
def test_a_kill_in_the_middle_leaves_whole_files_alone(
    tmp_path: Path, moment: int, capsys: pytest.CaptureFixture[str]
) -> None:
    process = FORK.Process(target=killed_at, args=(tmp_path, moment))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    whole = sorted(tmp_path.glob("*.jsonl"))
    assert len(whole) == moment - 1
    written = [file.stat().st_mtime_ns for file in whole]
    for task, splits in MADE.items():
        for split, rows in splits.items():
            assert cached_rows(tmp_path, task, split, make) == rows
    assert [file.stat().st_mtime_ns for file in whole] == written
    assert read_all(tmp_path) == MADE
    assert capsys.readouterr().err == ""
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME to a folder that can be written"):
        cached_rows(tmp_path / "file" / "rows", "one", "train", make)
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"Is a directory.*set XDG_CACHE_HOME"):
        cached_rows(tmp_path, "one", "train", make)


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path) -> None:
    large = {"one": {"train": [{"text": "x" * 1_000_000}] * 100}}
    with pytest.raises(UserError, match=r"No space left.*set XDG_CACHE_HOME"):
        cached_rows(small_disk / "rows", "one", "train", lambda: large)
    assert [path.name for path in (small_disk / "rows").iterdir()] == [".lock"]


def test_the_cache_folder_is_where_xdg_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/her")
    for named, folder in (
        (str(tmp_path), tmp_path / "flexbert"),
        ("relative", Path("/home/her/.cache/flexbert")),
        ("", Path("/home/her/.cache/flexbert")),
        (None, Path("/home/her/.cache/flexbert")),
    ):
        if named is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert user_cache() == folder

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(rows_cache.Path, "home", homeless)
    with pytest.raises(UserError, match="set XDG_CACHE_HOME to a folder"):
        user_cache()
