"""A hash over a whole checkpoint file, which the file carries at its end.

``torch.save`` writes a zip archive, and ``torch.load`` compares none of its checksums. The hash is
the archive's comment, which every reader of zip files passes over::

    ... the archive up to and with the length of its comment | xxh3_128:0123...cdef
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import torch
import xxhash

from flexbert.files.content_hash import hash_of

_LABEL = b"xxh3_128:"
_COMMENT = re.compile(_LABEL + rb"([0-9a-f]{32})")
_COMMENT_BYTES = len(_LABEL) + 32
# An archive ends with a record whose last two bytes are the length of the comment behind it.
_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22


def save_hashed(content: Any, file: BinaryIO) -> None:
    """``torch.save`` into an empty file, with the hash of all that was written.

    Raises:
        OSError: if the disk refuses it.
    """
    hashed = _Hashed(file)
    try:
        torch.save(content, hashed)  # type: ignore[arg-type]
    except RuntimeError:
        # Torch's writer tells only that its file ended too early.
        if hashed.error is not None:
            raise hashed.error from None
        raise
    end_record = bytes(hashed.held)
    assert end_record.startswith(_END_RECORD), "what torch ends a file with"
    assert end_record.endswith(b"\0\0"), "torch writes no comment"
    length = _COMMENT_BYTES.to_bytes(2, "little")
    hashed.hash.update(end_record[:-2] + length)
    file.seek(-2, os.SEEK_END)
    file.write(length + _LABEL + hashed.hash.hexdigest().encode())


def file_digest(path: Path) -> str | None:
    """The hash that a checkpoint carries, read from its end and not compared; None: it has none.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return _carried(file, os.fstat(file.fileno()).st_size)


def is_as_written(path: Path) -> bool | None:
    """Whether a file still has the hash that it carries; None where it carries none.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        carried = _carried(file, size)
        if carried is None:
            return None
        file.seek(0)
        return hash_of(file, size - _COMMENT_BYTES).hexdigest() == carried


def _carried(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - _COMMENT_BYTES))
    match = _COMMENT.fullmatch(file.read())
    return match[1].decode() if match else None


class _Hashed:
    """A file that torch writes to; all but its last bytes, which are still changed, are hashed.

    Attributes:
        held: these last bytes.
        error: the first that the disk raised.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = xxhash.xxh3_128()
        self.held = bytearray()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self._file.write(view)
        except OSError as error:
            self.error = self.error or error
            raise
        if len(view) >= _END_RECORD_BYTES:
            self.hash.update(self.held)
            self.hash.update(view[:-_END_RECORD_BYTES])
            self.held = bytearray(view[-_END_RECORD_BYTES:])
        else:
            self.held += view
            whole = max(0, len(self.held) - _END_RECORD_BYTES)
            self.hash.update(self.held[:whole])
            del self.held[:whole]
        return len(view)

    def flush(self) -> None:
        self._file.flush()
