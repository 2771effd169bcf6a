"""Checkpoint files: written whole or not at all, read without running any code.

A checkpoint ``checkpoints/step-00001000.pt`` is a dict that plain ``torch.load`` with
``weights_only=True`` and the allow-list below can read::

    format      FORMAT_VERSION
    recipe      the resolved recipe of the stage, plain containers
    run         that of the whole run, in those that a run wrote
    averaged    in those of ``flexbert average``: what the weights are the mean of
    tokenizer   file name to text: what a Hugging Face tokenizer folder holds
    state       Composer's state: model, optimizers, timestamp, callbacks
"""

from __future__ import annotations

import datetime
import difflib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.errors import UserError

FORMAT_VERSION = 1
# The only class in a checkpoint beside tensors and plain containers: Composer's clock has one.
SAFE_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [datetime.timedelta]
_KEYS = {"format", "recipe", "tokenizer", "state"}


class CheckpointError(UserError):
    """A checkpoint file cannot be used; the message names it and why."""


def write_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Save ``contents`` so that a kill at any moment leaves either the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT_VERSION, **contents}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def is_compressed(path: Path) -> bool:
    """Whether a zip file packs anything: torch does not, and a little can be packed that fills any
    memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return False


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


def read_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """The contents of a checkpoint, tensors on the CPU.

    Args:
        mapped: read tensors from the file when they are used, for whoever wants their shapes.

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
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # Whatever stands in a hostile or damaged file decides what is raised while it is read.
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from None
    if not isinstance(contents, dict) or not contents.keys() >= _KEYS:
        raise CheckpointError(f"{path}: not a FlexBERT checkpoint")
    if contents["format"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {contents['format']}, this FlexBERT reads {FORMAT_VERSION}"
        )
    return contents


def _nearest(path: Path) -> str:
    """What there is in place of a missing checkpoint, or of a missing run's folder."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    there = [p.name for p in folder.iterdir() if p.suffix == ".pt" or p.is_dir()]
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there is none like it in {folder}"
