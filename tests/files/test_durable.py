"""Disks that are full, read-only or limited: one line, nothing half written, the old file stays."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import read_checkpoint, write_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name, list_checkpoints
from flexbert.errors import UserError
from flexbert.files.durable import (
    WriteError,
    check_writable,
    new_folder,
    write_durably,
    write_text,
)
from flexbert.files.set_aside import make_way, set_aside
from flexbert.metrics_file import MetricsWriter, read_metrics

MB = 1_000_000
RECORD = {"event": "train", "stage": "a", "step": 1, "tokens": 1, "stage_tokens": 1}


def checkpoint(megabytes: int) -> Checkpoint:
    return Checkpoint(recipe={}, tokenizer={}, model={"weight": torch.ones(megabytes * MB // 4)})


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(small_disk: Path) -> None:
    folder = small_disk / "checkpoints"
    write_checkpoint(folder / checkpoint_name(1), checkpoint(5))
    for _ in range(2):
        with pytest.raises(WriteError) as error:
            write_checkpoint(folder / checkpoint_name(2), checkpoint(5))
        message = str(error.value)
        assert "\n" not in message
        for words in (checkpoint_name(2), "No space left", "5.0 MB needed", "MB free there"):
            assert words in message
        assert [path.name for path in folder.iterdir()] == [checkpoint_name(1)]
    assert read_checkpoint(list_checkpoints(folder)[-1]).model["weight"].sum() == 5 * MB / 4
    (folder / checkpoint_name(1)).unlink()
    write_checkpoint(folder / checkpoint_name(2), checkpoint(5))


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))


def test_records_wait_for_a_full_disk(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = MetricsWriter(small_disk / "metrics.jsonl")
    writer.append({**RECORD, "step": 1})
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        fill(filler)
    for step in range(2, 200):
        writer.append({**RECORD, "step": step, "comment": "x" * 100})
    writer.flush()
    assert capsys.readouterr().err.count("warning") == 1
    written = read_metrics(small_disk)
    assert [record.step for record in written] == list(range(1, len(written) + 1))
    assert len(written) < 199
    filler.unlink()
    writer.append({**RECORD, "step": 200})
    writer.flush()
    assert [record.step for record in read_metrics(small_disk)] == list(range(1, 201))
    assert "no records" not in capsys.readouterr().err


def limited(action: Callable[[Path], object], folder: Path, queue: multiprocessing.Queue) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, MB))
    try:
        action(folder)
    except UserError as error:
        queue.put(f"{type(error).__name__} {error}")
    else:
        queue.put("written")


def _checkpoint(folder: Path) -> None:
    write_checkpoint(folder / checkpoint_name(1), checkpoint(3))


def _text(folder: Path) -> None:
    write_text(folder / "text", "x" * 3 * MB)


def _folder(folder: Path) -> None:
    with new_folder(folder / "new") as inside:
        (inside / "file").write_bytes(bytes(3 * MB))


@pytest.mark.parametrize("action", [_checkpoint, _text, _folder])
def test_a_limit_on_files_is_one_line_and_leaves_nothing(
    tmp_path: Path, action: Callable[[Path], object]
) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=limited, args=(action, tmp_path, queue))
    process.start()
    told = queue.get(timeout=60)
    process.join()
    assert told.startswith("WriteError")
    assert "File too large" in told
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_is_told_and_other_errors_are_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot be written: Not a directory"):
        write_text(tmp_path / "file" / "under", "x")
    with pytest.raises(WriteError, match="cannot be written: No such file"):
        write_text(tmp_path / "no" / "folder", "x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(WriteError, match="taken: cannot be written: Is a directory"):
        write_text(tmp_path / "taken", "x")
    # Another file's error is not this one's.
    with (
        pytest.raises(FileNotFoundError),
        write_durably(tmp_path / "copy"),
        open("/nowhere/original"),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_file_that_could_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(WriteError, match=r"new: is a folder; give a file"):
        check_writable(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file: cannot be made"):
        check_writable(tmp_path / "file" / "below")


def test_nothing_is_written_through_a_planted_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for planted in (".mine.tmp", "mine"):
        (tmp_path / planted).symlink_to(victim)
        write_text(tmp_path / "mine", "new")
        assert victim.read_text() == "precious"
        assert (tmp_path / "mine").read_text() == "new"
        (tmp_path / "mine").unlink()


def write_while(path: Path, other: Callable[[], object]) -> None:
    with write_durably(path) as file:
        file.write(b"half")
        other()


def test_two_that_write_the_same_file_do_not_mix(tmp_path: Path) -> None:
    path, temporary = tmp_path / "file", tmp_path / ".file.tmp"
    with pytest.raises(WriteError, match="another process"):
        write_while(path, lambda: write_text(path, "whole"))
    assert path.read_text() == "whole"

    def begin() -> None:
        temporary.unlink()
        temporary.write_text("of another, in the making")

    with pytest.raises(WriteError, match="another process"):
        write_while(path, begin)
    assert path.read_text() == "whole"
    assert temporary.exists()


def test_what_is_set_aside_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "file"
    names = []
    for number in range(3):
        path.write_text(str(number))
        names.append(set_aside(path).name)
    assert names == ["file.damaged", "file.damaged-2", "file.damaged-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["0", "1", "2"]
    path.mkdir()
    assert make_way(path) == tmp_path / "file.damaged-4"
    assert make_way(path) is None
    path.write_text("x")
    assert make_way(path) is None
    assert make_way(path, for_folder=True) == tmp_path / "file.damaged-5"
    os.symlink(tmp_path / "nowhere", path)
    assert make_way(path) == tmp_path / "file.damaged-6"
