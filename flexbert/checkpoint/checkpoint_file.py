"""Checkpoint files: written whole or not at all, read without running any code.

A file ``checkpoints/step-00001000.pt`` holds plain containers and tensors, so that anybody's
``torch.load(..., weights_only=True)`` reads it::

    format          FORMAT_VERSION
    recipe          the resolved recipe of the stage
    tokenizer       file name to text
    model           parameter name to tensor
    averaged        only in those of ``flexbert average``: checkpoints and shares
    training        only in those that a run wrote:
        run             the resolved recipe of the whole run
        clock           updates, rows, tokens, seconds
        data            stage, generation, position, order
        optimizer       name, parameters (by parameter name), updates
        moving_average  parameter name to tensor, or None
        callbacks       name in the recipe to what the callback remembers
"""

from __future__ import annotations

import dataclasses
import difflib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flexbert.checkpoint.checkpoint import (
    Averaged,
    Checkpoint,
    OptimizerState,
    RunClock,
    TrainingState,
)
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.data.packing.position import DataState
from flexbert.errors import UserError, first_line
from flexbert.files.durable import write_durably

FORMAT_VERSION = 2


class CheckpointError(UserError):
    """A checkpoint file cannot be used; the message names it and why."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Save a checkpoint so that a kill at any moment leaves either the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_durably(path) as file:
        torch.save(_plain(checkpoint), file)


def checkpoint_file(path: Path) -> Path:
    """The checkpoint ``path``, or the newest of the run whose folder ``path`` is.

    Raises:
        CheckpointError: if a folder holds none.
    """
    if not path.is_dir():
        return path
    found = list_checkpoints(path / "checkpoints") or list_checkpoints(path)
    if not found:
        raise CheckpointError(f"{path}: no checkpoint in it")
    return found[-1]


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint, its tensors on the CPU and mapped from the file.

    Raises:
        CheckpointError: if the file is missing, truncated, holds anything but data, or is not ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; {_nearest(path)}")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: not a readable checkpoint (not one of torch.save, or cut)")
    if is_compressed(path):
        raise CheckpointError(f"{path}: not a readable checkpoint (compressed)")
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # Whatever stands in a hostile or damaged file decides what is raised while it is read.
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({load_problem(error)})"
        ) from None
    if not isinstance(plain, dict) or "format" not in plain:
        raise CheckpointError(f"{path}: not a FlexBERT checkpoint")
    if plain["format"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {plain['format']!r}, this FlexBERT reads {FORMAT_VERSION}"
        )
    try:
        return _typed(plain, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not a FlexBERT checkpoint ({type(error).__name__}: {first_line(error)})"
        ) from None


def load_problem(error: Exception) -> str:
    """Why torch did not load a file, in our own words: its own advise to load it unchecked."""
    if isinstance(error, pickle.UnpicklingError):
        return "damaged, or holds more than plain data and tensors; no code of it is run"
    return "damaged or cut"


def training_of(checkpoint: Checkpoint) -> TrainingState:
    """What a run needs to go on from a checkpoint.

    Raises:
        CheckpointError: if the checkpoint holds weights alone.
    """
    if checkpoint.training is None:
        raise CheckpointError(f"{checkpoint.name}: holds weights alone, and no run can go on")
    return checkpoint.training


def is_compressed(path: Path) -> bool:
    """Whether a zip file packs anything: torch does not, and a little can be packed that fills any
    memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return False


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "recipe": checkpoint.recipe,
        "tokenizer": dict(checkpoint.tokenizer),
        "model": dict(checkpoint.model),
    }
    if checkpoint.averaged is not None:
        plain["averaged"] = {
            "checkpoints": list(checkpoint.averaged.checkpoints),
            "shares": list(checkpoint.averaged.shares),
        }
    training = checkpoint.training
    if training is not None:
        optimizer = training.optimizer
        plain["training"] = {
            "run": training.run,
            "clock": dataclasses.asdict(training.clock),
            "data": training.data.plain(),
            "optimizer": {
                "name": optimizer.name,
                "parameters": {name: dict(kept) for name, kept in optimizer.parameters.items()},
                "updates": optimizer.updates,
            },
            "moving_average": _dict_or_none(training.moving_average),
            "callbacks": dict(training.callbacks),
        }
    return plain


def _typed(plain: Mapping[str, Any], path: Path) -> Checkpoint:
    averaged = plain.get("averaged")
    training = plain.get("training")
    return Checkpoint(
        recipe=_mapping(plain, "recipe"),
        tokenizer=_mapping(plain, "tokenizer"),
        model=_mapping(plain, "model"),
        training=None if training is None else _typed_training(training),
        averaged=None
        if averaged is None
        else Averaged(checkpoints=tuple(averaged["checkpoints"]), shares=tuple(averaged["shares"])),
        path=path,
    )


def _typed_training(plain: Mapping[str, Any]) -> TrainingState:
    optimizer = _mapping(plain, "optimizer")
    return TrainingState(
        run=_mapping(plain, "run"),
        clock=RunClock(**_mapping(plain, "clock")),
        data=DataState.read(_mapping(plain, "data")),
        optimizer=OptimizerState(
            name=optimizer["name"],
            parameters=_mapping(optimizer, "parameters"),
            updates=optimizer["updates"],
        ),
        moving_average=_dict_or_none(plain["moving_average"]),
        callbacks=_mapping(plain, "callbacks"),
    )


def _mapping(plain: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = plain[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key} is no mapping")
    return value


def _dict_or_none(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def _nearest(path: Path) -> str:
    """What there is in place of a missing checkpoint, or of a missing run's folder."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    there = [p.name for p in folder.iterdir() if p.suffix == ".pt" or p.is_dir()]
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there is none like it in {folder}"
