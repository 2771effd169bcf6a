"""The folder for a node's shared files where a recipe names none: among temporary files.

Everybody may write where these are, so ours is believed only if nobody else can have filled it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from flexbert.errors import UserError

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def default_cache() -> Path:
    """The folder for a node's shared arrays, where a recipe names none."""
    return Path(tempfile.gettempdir()) / f"flexbert-{os.getuid()}"


def make_private(folder: Path) -> None:
    """Make a folder that this user alone may enter, or make sure that nobody else can write there.

    Raises:
        UserError: if it is a link, no folder, another user's, or open to others.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _refused(folder, error.strerror or str(error)) from None
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(folder, "is a link or a file, and no folder")
    if found.st_uid != os.getuid():
        raise _refused(folder, "is another user's")
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise _refused(folder, "can be written by other users")


def _refused(folder: Path, problem: str) -> UserError:
    return UserError(f"{folder}: {problem}; set data.cache to a folder of your own")
