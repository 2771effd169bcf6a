"""Reading files that somebody else made: regular ones only, no longer than they may be.

A pipe would be waited for without end, and a device such as ``/dev/zero`` read without end.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

# No description of a corpus, a tokenizer or a model is longer; what is, is not read.
LARGEST_TEXT = 256 * 2**20


class IrregularFileError(OSError):
    """What was to be read is no regular file, or one that is too long."""


def open_regular(path: Path | str, at_most: int | None = None, *, buffering: int = -1) -> BinaryIO:
    """A regular file, opened for reading; links to one count as it.

    Args:
        at_most: bytes.
        buffering: as of ``open``.

    Raises:
        OSError: with its ``strerror``, if it cannot be opened; an :class:`IrregularFileError` if it
            is anything else, or longer.
    """
    # Opening a pipe without a writer waits for one unless told not to.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise IrregularFileError(errno.EINVAL, "not a regular file", str(path))
        if at_most is not None and found.st_size > at_most:
            problem = f"{found.st_size} bytes long, and {at_most} are the most that are read"
            raise IrregularFileError(errno.EFBIG, problem, str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb", buffering)


def read_regular(path: Path | str, at_most: int = LARGEST_TEXT) -> bytes:
    """All of a regular file.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(path, at_most) as file:
        return file.read(at_most)


def load_json(path: Path | str, at_most: int = LARGEST_TEXT) -> Any:
    """What a regular file of JSON holds, its numbers finite.

    Raises:
        OSError: as :func:`open_regular`.
        ValueError: if it is not JSON, or nested too deeply to be anything of ours.
    """
    return parse_json(read_regular(path, at_most))


def refuse_irregular(folder: Path) -> None:
    """For a folder that another library is to read: it would wait for a pipe in it.

    Raises:
        IrregularFileError: naming what lies there and is neither a regular file nor a folder.
    """
    for path in sorted(folder.iterdir()):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise IrregularFileError(errno.EINVAL, "not a regular file", str(path))


def parse_json(text: bytes | str) -> Any:
    """What a text of JSON holds.

    Raises:
        ValueError: as :func:`load_json`.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
