"""How the checkpoints of a run are called."""

from __future__ import annotations

import os
import re
from pathlib import Path

from flexbert.errors import UserError
from flexbert.files.set_aside import SUFFIX

_NAME = re.compile(r"step-(\d{8,})\.pt")
_SET_ASIDE = re.compile(_NAME.pattern + re.escape(SUFFIX) + r"(-\d+)?")


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}.pt"


def checkpoint_step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first; none of those that were set aside.

    Raises:
        UserError: if the folder is there and cannot be listed.
    """
    return sorted(_named(folder, _NAME), key=checkpoint_step)


def list_set_aside(folder: Path) -> list[Path]:
    """Checkpoints of a run that were found damaged, and renamed, by an earlier launch."""
    return sorted(_named(folder, _SET_ASIDE))


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        if not folder.is_symlink():
            return []
        raise UserError(f"{folder}: cannot be read (a link to nothing)") from None
    except OSError as error:
        # To take it for empty would begin the run from nothing.
        raise UserError(f"{folder}: cannot be read ({error.strerror or error})") from None
    return [folder / name for name in names if pattern.fullmatch(name)]
