"""Checkpoint files: whole or absent, and read without running code."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flexbert import load_model
from flexbert.checkpoint.checkpoint import Averaged, Checkpoint, OptimizerState
from flexbert.checkpoint.checkpoint_file import (
    FORMAT_VERSION,
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step, list_checkpoints
from flexbert.checkpoint.file_hash import save_hashed
from flexbert.files import durable
from tests.checkpoint.states import training_state

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3)}
MOMENTS = {"weight": {"exp_avg": torch.ones(2, 3), "step": torch.tensor(7.0)}}
CHECKPOINT = Checkpoint(
    recipe={"model": {"hidden_size": 8}}, tokenizer={"tokenizer.json": "{}"}, model=WEIGHTS
)
# The same as a file has it.
CONTENTS: dict[str, Any] = {
    "format": FORMAT_VERSION,
    "recipe": {"model": {"hidden_size": 8}},
    "tokenizer": {"tokenizer.json": "{}"},
    "model": WEIGHTS,
}


class Exploit:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch exploited",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / checkpoint_name(7)
    saved = training_state(moving_average={"weight": torch.full((2, 3), 2.0)})
    saved = replace(saved, optimizer=OptimizerState(name="adamw", parameters=MOMENTS, updates=None))
    averaged = Averaged(checkpoints=("a.pt", "b.pt"), shares=(0.25, 0.75))
    write_checkpoint(path, replace(CHECKPOINT, training=saved, averaged=averaged))
    read = read_checkpoint(path)
    assert (read.recipe, read.tokenizer) == (CHECKPOINT.recipe, CHECKPOINT.tokenizer)
    assert (read.averaged, read.path) == (averaged, path)
    assert torch.equal(read.model["weight"], WEIGHTS["weight"])
    assert read.training is not None
    assert (read.training.run, read.training.clock) == (saved.run, saved.clock)
    assert read.training.data == saved.data
    assert read.training.moving_average is not None
    assert torch.equal(read.training.moving_average["weight"], torch.full((2, 3), 2.0))
    optimizer = read.training.optimizer
    assert (optimizer.name, optimizer.updates) == ("adamw", None)
    torch.testing.assert_close(dict(optimizer.parameters), MOMENTS)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_anybody_reads_a_checkpoint_without_running_code(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.pt", replace(CHECKPOINT, training=training_state()))
    # No class needs to be allowed.
    assert torch.load(tmp_path / "a.pt", weights_only=True)["training"]["clock"]["updates"] == 7


def test_a_compressed_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    path, packed = tmp_path / "plain.pt", tmp_path / checkpoint_name(1)
    write_checkpoint(path, CHECKPOINT)
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
    monkeypatch.setattr(durable.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, CHECKPOINT)
    assert list_checkpoints(tmp_path) == []
    monkeypatch.undo()
    write_checkpoint(path, CHECKPOINT)
    assert list_checkpoints(tmp_path) == [path]


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    for step in (5, 123_456_789, 40):
        (tmp_path / checkpoint_name(step)).touch()
    (tmp_path / "step-best.pt").touch()
    assert [checkpoint_step(path) for path in list_checkpoints(tmp_path)] == [5, 40, 123_456_789]


@pytest.mark.parametrize(
    "content",
    [
        {**CONTENTS, "model": Exploit()},
        Exploit(),
        {"weights": torch.zeros(1)},
        torch.zeros(1),
        {**CONTENTS, "format": 99},
        {key: value for key, value in CONTENTS.items() if key != "tokenizer"},
        {**CONTENTS, "training": {"run": {}, "clock": {"updates": 1}}},
        {**CONTENTS, "training": {"run": {}, "clock": {"updates": 1, "wings": 2}}},
    ],
    ids=[
        "exploit inside",
        "exploit",
        "another dict",
        "a tensor",
        "another format",
        "no tokenizer",
        "half a training state",
        "a clock with wings",
    ],
)
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / checkpoint_name(1)
    with path.open("w+b") as file:
        save_hashed(content, file)
    with pytest.raises(CheckpointError, match=path.name) as error:
        read_checkpoint(path)
    assert "hash" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "missing"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / checkpoint_name(1)
    write_checkpoint(path, CHECKPOINT)
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
    write_checkpoint(path, CHECKPOINT)
    with pytest.raises(CheckpointError, match="vocab_size: is missing"):
        load_model(path)
