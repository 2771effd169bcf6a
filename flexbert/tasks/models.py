"""The models of a search: read when they are needed, told apart by what they are."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flexbert.config.encode import encode
from flexbert.errors import UserError
from flexbert.pretrained.load_model import ReadModel, read_model

UNTRAINED = "untrained"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """A model of a search.

    Attributes:
        label: its row in tables.
        path: of its checkpoint or folder.
        fingerprint: of its weights, config and tokenizer; 16 hexadecimal digits.
        untrained: whether its weights are drawn anew for every fit, by the fit's seed.
    """

    label: str
    path: Path
    fingerprint: str
    untrained: bool = False

    def read(self) -> ReadModel:
        """The model; the last one is kept, as a search goes through one after the other."""
        return _read_cached(self.path)


def find_models(given: Sequence[str], *, untrained: bool = False) -> list[TaskModel]:
    """Models as they are given: a path or a name, or ``LABEL=`` and that.

    Args:
        untrained: also each one's like with weights drawn anew.

    Raises:
        UserError: if one cannot be read, two would have one label, or two are the same.
    """
    found: dict[str, TaskModel] = {}
    for text in given:
        label, is_named, rest = text.partition("=")
        if not is_named or Path(text).exists():
            label, rest = "", text
        read = _read_cached(Path(rest))
        label = label or _label(read.path, Path(rest))
        model = TaskModel(label=label, path=read.path, fingerprint=_fingerprint(read))
        twin = TaskModel(
            label=f"{label} ({UNTRAINED})",
            path=read.path,
            fingerprint=_fingerprint(read, untrained=True),
            untrained=True,
        )
        for each in (model, twin) if untrained else (model,):
            if each.label in found:
                raise UserError(f"{text}: {each.label} is there already; write LABEL={rest}")
            same = [old for old in found.values() if old.fingerprint == each.fingerprint]
            if same and not each.untrained:
                raise UserError(f"{text}: is the same model as {same[0].label}")
            # Of two models of one shape, untrained is one row.
            if not same:
                found[each.label] = each
    return list(found.values())


def _read_cached(path: Path) -> ReadModel:
    # A run that has gone back saves another checkpoint under the same name.
    state = path.stat() if path.is_file() else None
    return _read(path, state and (state.st_ino, state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=1)
def _read(path: Path, version: tuple[int, ...] | None) -> ReadModel:
    return read_model(path, needs_head=False)


def _label(found: Path, given: Path) -> str:
    """A run's name and the checkpoint's; a folder's name; a name of the hub as it is."""
    if found.parent.name == _CHECKPOINTS:
        return f"{found.parent.parent.name}/{found.stem}"
    if found.is_file():
        return found.stem
    return found.resolve().name if given.exists() else str(given)


def _fingerprint(read: ReadModel, *, untrained: bool = False) -> str:
    digest = hashlib.sha256()
    plain = {"config": encode(read.config), "tokenizer": dict(read.tokenizer)}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for name in () if untrained else sorted(read.weights):
        value = read.weights[name].detach().contiguous().flatten()
        digest.update(f"{name} {value.dtype} {len(value)}".encode())
        digest.update(value.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
