"""Adding lines to a file, each whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from flexbert.files.durable import sync_folder


def append_lines(path: Path, waiting: list[bytes], *, sync: bool) -> None:
    """Add lines to a file, in order, and take off the list those that are written.

    A line that a kill has cut is ended first, so that it does not spoil the next.

    Args:
        waiting: each with its end.
        sync: wait until the file is on the disk.

    Raises:
        OSError: if the disk takes no more; what is still in ``waiting`` is not written.
    """
    is_new = not path.exists()
    if is_new and not waiting:
        return
    # Unbuffered, so that what was written is known.
    with path.open("ab", buffering=0) as file:
        descriptor = file.fileno()
        if waiting:
            _close_line(path, descriptor)
        while waiting:
            before = os.fstat(descriptor).st_size
            try:
                _write_whole(descriptor, waiting[0])
            except OSError:
                # No half line stays; where that fails too, it is closed before the next.
                os.ftruncate(descriptor, before)
                raise
            del waiting[0]
        if sync:
            os.fsync(descriptor)
    if sync and is_new:
        sync_folder(path.parent)


def _write_whole(descriptor: int, content: bytes) -> None:
    # A disk that becomes full takes a part, and says why at the next attempt.
    while content:
        content = content[os.write(descriptor, content) :]


def _close_line(path: Path, descriptor: int) -> None:
    """End a line that was left half written."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return
    with path.open("rb") as file:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            os.write(descriptor, b"\n")
