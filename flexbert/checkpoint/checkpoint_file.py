"""Checkpoint files: written whole or not at all, read without running any code.

A file ``checkpoints/step-00001000.pt`` carries a hash of itself (``file_hash``). It holds plain
containers and tensors, so that anybody's ``torch.load(..., weights_only=True)`` reads it::

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
        health          skipped updates, recent losses and gradient norms
        evaluation_due  whether the run stopped in an evaluation
        due_step        updates in the last checkpoint that was due
        is_overdue      whether one is due that is not saved yet
        early_stopping  what the stage's evaluations were, and whether it has ended
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
from torch import Tensor

from flexbert.checkpoint.checkpoint import (
    Averaged,
    Checkpoint,
    EarlyStoppingState,
    HealthState,
    OptimizerState,
    RunClock,
    TrainingState,
)
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.checkpoint.file_hash import is_as_written, save_hashed
from flexbert.config.plain_values import (
    as_dict,
    count,
    dict_of,
    number,
    numbers,
    text,
    tree,
    truth,
    value_of,
)
from flexbert.data.format.corpus_format import TOKENIZER_FILES, is_plain_name
from flexbert.data.packing.position import DataState
from flexbert.errors import UserError, first_line
from flexbert.files.durable import make_folder, write_durably

FORMAT_VERSION = 4
_MOST_SECONDS = 1e10  # three centuries; a wall clock has no room for much more


class CheckpointError(UserError):
    """A checkpoint file cannot be used; the message names it and why."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file is not what was written, or never was one of ours."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Save a checkpoint so that a kill at any moment leaves either the whole file or none.

    Raises:
        WriteError: if the disk refuses it; nothing is left of it then.
    """
    make_folder(path.parent)
    plain = _plain(checkpoint)
    with write_durably(path, needed=_tensor_bytes(plain)) as file:
        save_hashed(plain, file)


def checkpoint_file(path: Path) -> Path:
    """The checkpoint ``path``, or the newest of the run whose folder ``path`` is.

    Raises:
        CheckpointError: if a folder holds none.
    """
    if not path.is_dir():
        return path
    checkpoints = path / "checkpoints"
    found = (list_checkpoints(checkpoints) if checkpoints.is_dir() else []) or list_checkpoints(
        path
    )
    if not found:
        raise CheckpointError(f"{path}: no checkpoint in it")
    return found[-1]


def read_checkpoint(path: Path, *, verify: bool = True) -> Checkpoint:
    """A checkpoint, its tensors on the CPU and mapped from the file.

    Args:
        verify: whether the whole file is read and compared with its hash first; not needed where
            that has just been done.

    Raises:
        DamagedCheckpointError: if the file is truncated or changed, holds anything but data, or is
            not ours.
        CheckpointError: if it is missing, cannot be read, or is of another version of the format.
    """
    if path.is_dir():
        raise DamagedCheckpointError(f"{path}: not a readable checkpoint (a folder)")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; {_nearest(path)}")
    try:
        is_sound = is_as_written(path) if verify else True
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or first_line(error)})"
        ) from None
    if not _is_zip(path):
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint (not one of torch.save, or cut)"
        )
    if is_sound is False:
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint (damaged: its content does not match its hash)"
        )
    if is_compressed(path):
        raise DamagedCheckpointError(f"{path}: not a readable checkpoint (compressed)")
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # Whatever stands in a hostile or damaged file decides what is raised while it is read.
    except Exception as error:
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint ({load_problem(error)})"
        ) from None
    if not isinstance(plain, dict) or "format" not in plain:
        raise DamagedCheckpointError(f"{path}: not a FlexBERT checkpoint")
    version = plain["format"]
    if type(version) is not int:
        raise DamagedCheckpointError(f"{path}: not a FlexBERT checkpoint (no format's number)")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {version}, this FlexBERT reads {FORMAT_VERSION}"
        )
    if is_sound is None:
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint (damaged, or not written by FlexBERT: it carries "
            "no hash)"
        )
    try:
        return _typed(plain, path)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(
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
    memory. Of what cannot be listed nobody knows, so that it counts as packed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except OSError:
        return False
    # A directory that is damaged, or made up, decides what is raised.
    except Exception:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except Exception:  # as above
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
            "health": dataclasses.asdict(training.health),
            "evaluation_due": training.evaluation_due,
            "due_step": training.due_step,
            "is_overdue": training.is_overdue,
            "early_stopping": dataclasses.asdict(training.early_stopping),
        }
    return plain


def _tokenizer_alone(files: Mapping[str, str]) -> dict[str, str]:
    """Without what else lay in a model's folder (``config.json``): corpora that were made with such
    a folder as their tokenizer had all its text. What is no plain name stays, and is refused."""
    return {
        name: content
        for name, content in files.items()
        if name in TOKENIZER_FILES or not is_plain_name(name)
    }


def _typed(plain: Mapping[str, Any], path: Path) -> Checkpoint:
    averaged = None if plain.get("averaged") is None else dict_of(plain, "averaged")
    training = plain.get("training")
    return Checkpoint(
        recipe=value_of(plain, "recipe", tree),
        tokenizer=_tokenizer_alone(dict_of(plain, "tokenizer", text)),
        model=dict_of(plain, "model"),
        training=None if training is None else _typed_training(as_dict(training)),
        averaged=None
        if averaged is None
        else Averaged(
            checkpoints=tuple(map(text, averaged["checkpoints"])),
            shares=tuple(map(number, averaged["shares"])),
        ),
        path=path,
    )


def _typed_training(plain: Mapping[str, Any]) -> TrainingState:
    optimizer = dict_of(plain, "optimizer")
    updates = optimizer["updates"]
    clock = _typed_clock(dict_of(plain, "clock"))
    data = DataState.read(dict_of(plain, "data"))
    if clock.updates < data.position.update or clock.tokens < data.position.tokens:
        raise ValueError("the run's clock is behind its stage's")
    return TrainingState(
        run=value_of(plain, "run", tree),
        clock=clock,
        data=data,
        optimizer=OptimizerState(
            name=value_of(optimizer, "name", text),
            parameters=dict_of(optimizer, "parameters", as_dict),
            updates=None if updates is None else count(updates),
        ),
        moving_average=None
        if plain["moving_average"] is None
        else dict_of(plain, "moving_average"),
        callbacks=dict_of(plain, "callbacks", as_dict),
        health=_typed_health(dict_of(plain, "health")),
        evaluation_due=value_of(plain, "evaluation_due", truth),
        due_step=value_of(plain, "due_step", count),
        is_overdue=value_of(plain, "is_overdue", truth),
        early_stopping=_typed_early_stopping(plain),
    )


def _typed_health(plain: Mapping[str, Any]) -> HealthState:
    return HealthState(
        skipped=value_of(plain, "skipped", count),
        skipped_in_a_row=value_of(plain, "skipped_in_a_row", count),
        losses=value_of(plain, "losses", numbers),
        grad_norms=value_of(plain, "grad_norms", numbers),
        roll_backs=value_of(plain, "roll_backs", count),
    )


def _typed_early_stopping(plain: Mapping[str, Any]) -> EarlyStoppingState:
    if "early_stopping" not in plain:
        return EarlyStoppingState()  # saved before it was there
    found = dict_of(plain, "early_stopping")
    return EarlyStoppingState(
        seen_step=value_of(found, "seen_step", count),
        without_improvement=value_of(found, "without_improvement", count),
        bar=None if found["bar"] is None else value_of(found, "bar", number),
        best=None if found["best"] is None else value_of(found, "best", number),
        best_step=value_of(found, "best_step", count),
        has_ended=value_of(found, "has_ended", truth),
    )


def _typed_clock(plain: Mapping[str, Any]) -> RunClock:
    if unknown := sorted(plain.keys() - {field.name for field in dataclasses.fields(RunClock)}):
        raise ValueError(f"a clock with {', '.join(unknown)}")
    seconds = value_of(plain, "seconds", number)
    if not 0 <= seconds < _MOST_SECONDS:
        raise ValueError(f"seconds: {seconds:g} are no run's")
    return RunClock(
        updates=value_of(plain, "updates", count),
        rows=value_of(plain, "rows", count),
        tokens=value_of(plain, "tokens", count),
        seconds=seconds,
    )


def _dict_or_none(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def _tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def _nearest(path: Path) -> str:
    """What there is in place of a missing checkpoint, or of a missing run's folder."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    there = [p.name for p in folder.iterdir() if p.suffix == ".pt" or p.is_dir()]
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there is none like it in {folder}"
