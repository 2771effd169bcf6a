"""What is damaged is kept under another name, so that its own is free and nothing is lost."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from flexbert.files.durable import sync_folder, write_errors

SUFFIX = ".damaged"


def set_aside(path: Path) -> Path:
    """Rename a file or a folder to ``NAME.damaged``, or ``NAME.damaged-2`` where that is taken.

    The new name is on the disk when it is returned.

    Raises:
        WriteError: if it cannot be renamed.
    """
    with write_errors(path):
        for number in itertools.count(1):
            name = path.name + SUFFIX + (f"-{number}" if number > 1 else "")
            aside = path.with_name(name)
            if not os.path.lexists(aside):
                path.rename(aside)
                sync_folder(path.parent)
                return aside
    raise AssertionError("numbers do not end")


def make_way(path: Path, *, for_folder: bool = False) -> Path | None:
    """Set aside what has the name of a file and is none; or of a folder, and is none.

    Returns:
        Its new name; None where nothing was in the way.
    """
    is_right = path.is_dir() if for_folder else path.is_file()
    return set_aside(path) if os.path.lexists(path) and not is_right else None


def tell_set_aside(
    file: Path, aside: Path | None, problem: str = "it is not what it should be"
) -> None:
    """Say that a file was kept under another name, if it was."""
    if aside is not None:
        print(f"warning: {file}: {problem}; it is kept as {aside.name}, and made again", flush=True)
