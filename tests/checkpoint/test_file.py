"""Checkpoint files: whole or absent, and read without running code."""

from __future__ import annotations

import datetime
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from flexbert import load_model
from flexbert.checkpoint import file as checkpoint_file
from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step, list_checkpoints
from flexbert.checkpoint.file import CheckpointError, read_checkpoint, write_checkpoint

CONTENTS: dict[str, Any] = {
    "recipe": {"model": {"hidden_size": 8}},
    "tokenizer": {"tokenizer.json": "{}"},
    "state": {
        "model": {"weight": torch.arange(6.0).reshape(2, 3)},
        "timestamp": {"total": datetime.timedelta(seconds=3)},
    },
}


class Exploit:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch exploited",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / checkpoint_name(7)
    write_checkpoint(path, CONTENTS)
    contents = read_checkpoint(path)
    assert torch.equal(contents["state"]["model"]["weight"], CONTENTS["state"]["model"]["weight"])
    assert contents["state"]["timestamp"] == CONTENTS["state"]["timestamp"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_compressed_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    path, packed = tmp_path / "plain.pt", tmp_path / checkpoint_name(1)
    write_checkpoint(path, CONTENTS)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in plain.namelist():
            out.writestr(entry, plain.read(entry))
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(packed)


def test_a_kill_while_writing_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / checkpoint_name(3)
    monkeypatch.setattr(checkpoint_file.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, CONTENTS)
    assert list_checkpoints(tmp_path) == []
    monkeypatch.undo()
    write_checkpoint(path, CONTENTS)
    assert list_checkpoints(tmp_path) == [path]


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    for step in (5, 123_456_789, 40):
        (tmp_path / checkpoint_name(step)).touch()
    (tmp_path / "step-best.pt").touch()
    assert [checkpoint_step(path) for path in list_checkpoints(tmp_path)] == [5, 40, 123_456_789]


@pytest.mark.parametrize(
    "content",
    [
        {**CONTENTS, "state": Exploit()},
        Exploit(),
        {"weights": torch.zeros(1)},
        torch.zeros(1),
        {"format": 99, **CONTENTS},
    ],
    ids=["exploit inside", "exploit", "another dict", "a tensor", "another format"],
)
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / checkpoint_name(1)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=path.name) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "missing"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / checkpoint_name(1)
    write_checkpoint(path, CONTENTS)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "text": b"hello",
            "pickle": pickle.dumps(Exploit()),
        }
        path.write_bytes(damaged[damage])
    with pytest.raises(CheckpointError, match=path.name) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_those_of_the_recipe_are_refused(tmp_path: Path) -> None:
    path = tmp_path / checkpoint_name(1)
    write_checkpoint(path, CONTENTS)
    with pytest.raises(CheckpointError, match="vocab_size: is missing"):
        load_model(path)
