"""Files of one JSON object a line, to which several processes add.

What a kill has cut is closed before the next line, so that it spoils no other.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
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
    with write_errors(path, len(line)), file_lock(path.with_name(f".{path.name}.lock")):
        is_new = not path.exists()
        # Unbuffered, so that what was written is known.
        with path.open("ab", buffering=0) as file:
            descriptor = file.fileno()
            before = os.fstat(descriptor).st_size
            close_line(path, descriptor)
            try:
                write_whole(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        if is_new:
            sync_folder(path.parent)


def write_whole(descriptor: int, content: bytes) -> None:
    """Write all of it: a disk that becomes full takes a part, and says why at the next attempt."""
    while content:
        content = content[os.write(descriptor, content) :]


def close_line(path: Path, descriptor: int) -> None:
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
