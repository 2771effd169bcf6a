"""Files of one JSON object a line, to which several processes add.

What a kill has cut is closed before the next line, so that it spoils no other.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flexbert.files.durable import make_folder, sync_folder, write_errors
from flexbert.files.file_lock import file_lock


def json_line(value: Any) -> bytes:
    """A line of JSON that every reader takes: what is no finite number becomes null."""
    line = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False) + "\n"
    return line.encode(errors="backslashreplace")


def append_line(path: Path, line: bytes) -> None:
    """Add a line as the only one who does, and wait until it is on the disk.

    Processes of several machines that share the folder take turns where its file system has locks.
    Where it has none, a line is one write at the file's end, which local file systems keep whole.

    Args:
        line: with its end.

    Raises:
        WriteError: if the disk refuses it; then nothing of the line stays.
    """
    make_folder(path.parent)
    with write_errors(path, len(line)), lines_lock(path):
        append_lines(path, [line], sync=True)


def lines_lock(path: Path) -> AbstractContextManager[bool]:
    """The lock that whoever adds to a file of lines, or takes some away, holds."""
    return file_lock(path.with_name(f".{path.name}.lock"))


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
                if sync and len(waiting) == 1:
                    os.fsync(descriptor)
            except OSError:
                # No half line stays; where that fails too, it is closed before the next.
                os.ftruncate(descriptor, before)
                raise
            del waiting[0]
        if sync:
            os.fsync(descriptor)  # of lines that were added before, too
    if sync and is_new:
        sync_folder(path.parent)


def _write_whole(descriptor: int, content: bytes) -> None:
    # A disk that becomes full takes a part, and says why at the next attempt.
    while content:
        content = content[os.write(descriptor, content) :]


def _close_line(path: Path, descriptor: int) -> None:
    """End a line that was left half written, so that it does not spoil the next."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return
    with path.open("rb") as file:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            os.write(descriptor, b"\n")


def _finite(value: Any) -> Any:
    """Nested containers with None for every number that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
