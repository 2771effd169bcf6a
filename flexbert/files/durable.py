"""The one way to write a file: whole or not at all, and on the disk when it is said to be there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def write_durably(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for reading and writing, that takes the name ``path`` when the block ends.

    A reader, or a kill at any moment, sees the old file or the new one, whole. Contents and name
    are on the disk before the block is left. If the block raises, the old file stays and the new
    one is removed, so that a full disk is not kept full by it.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w+b") as file:
            yield file
            hand_to_disk(file)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text as :func:`write_durably` does, in UTF-8."""
    with write_durably(path) as file:
        file.write(text.encode())


def hand_to_disk(file: BinaryIO) -> None:
    """Wait until what is written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk: a file that was renamed is found after a crash.

    Some file systems (FUSE, SMB) cannot sync folders; there nothing is promised.
    """
    with contextlib.suppress(OSError):
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the name ``path`` when the block ends.

    As :func:`write_durably` for a folder that is not there yet, or is empty: if the block raises,
    nothing is left behind. The folder's parent is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for written in temporary.rglob("*"):
            if written.is_file():
                _sync(written, os.O_RDONLY)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def place(file: Path, path: Path) -> None:
    """Give a file that is complete its name ``path``, and wait until both are on the disk."""
    _sync(file, os.O_RDONLY)  # it may be as read-only as its original
    file.replace(path)
    sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
