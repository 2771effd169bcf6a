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


def make_way(path: Path) -> Path | None:
    """Set aside what has the name of a file and is none, such as a folder.

    Returns:
        Its new name; None where nothing was in the way.
    """
    if not os.path.lexists(path) or path.is_file():
        return None
    return set_aside(path)
