"""The one way to write a file: whole or not at all, and on the disk when it is said to be there.

A disk that is full, a quota, a read-only mount: each is one :class:`WriteError`, and what was there
before stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flexbert.errors import UserError, first_line
from flexbert.files.free_space import bytes_text, free_bytes

# What a disk may answer to a descriptor. An error that names a file says itself whose it is.
_OF_A_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ENODEV,
    errno.ENXIO,
}


class WriteError(UserError):
    """A file or a folder cannot be written; the message says which, why, and how much is free."""


@contextlib.contextmanager
def write_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Report what the disk refuses inside as a :class:`WriteError` about ``path``.

    Errors about files elsewhere pass through.

    Args:
        needed: bytes that are to be written, where that is known.
    """
    try:
        yield
    except OSError as error:
        if not _is_about(error, path):
            raise
        sizes = [] if needed is None else [f"{bytes_text(needed)} needed"]
        free = free_bytes(path)
        sizes += [] if free is None else [f"{bytes_text(free)} free there"]
        raise WriteError(
            f"{path}: cannot be written: {error.strerror or first_line(error)}"
            + (f" ({', '.join(sizes)})" if sizes else "")
        ) from error


def _is_about(error: OSError, path: Path) -> bool:
    if isinstance(error.filename, str | bytes | os.PathLike):
        return Path(os.fsdecode(error.filename)).is_relative_to(path.parent)
    return error.errno in _OF_A_DISK


@contextlib.contextmanager
def write_durably(path: Path, *, writer: str = "", needed: int | None = None) -> Iterator[BinaryIO]:
    """A new file, open for reading and writing, that takes the name ``path`` when the block ends.

    A reader, or a kill at any moment, sees the old file or the new one, whole. Contents and name
    are on the disk before the block is left. If the block raises, the old file stays and the new
    one is removed, so that a full disk is not kept full by it.

    Args:
        writer: tells apart those that may write the same file at once and are told apart by no
            lock: the machine's name, say.
        needed: bytes that are to be written, where that is known.

    Raises:
        WriteError: if the disk refuses it, or another process has begun to write the same file.
    """
    temporary = path.with_name(f".{path.name}.{writer}.tmp" if writer else f".{path.name}.tmp")
    with write_errors(path, needed):
        # A leftover, or a link that somebody planted: nothing is written through it.
        temporary.unlink(missing_ok=True)
        with temporary.open("x+b") as file:
            own = os.fstat(file.fileno())
            try:
                yield file
                hand_to_disk(file)
                if not _is_at(own, temporary):
                    raise WriteError(f"{path}: another process is writing it too")
                temporary.replace(path)
            except BaseException:
                if _is_at(own, temporary):
                    temporary.unlink()
                with contextlib.suppress(OSError):
                    file.close()  # what is still in its buffer meets the full disk again
                raise
        sync_folder(path.parent)


def _is_at(own: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(own, path.lstat())
    except OSError:
        return False


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


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        WriteError: if that is refused, or a file has the name of one of them.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be made: {error.strerror or first_line(error)}"
        ) from error


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before what stands in it is computed.

    The folder that it lies in is made where it is missing.

    Raises:
        WriteError: if the folder cannot be made, takes no file, or has a folder of this name.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise WriteError(f"{path}: is a folder; give a file")
    with write_errors(path), tempfile.TemporaryFile(dir=path.parent):
        pass


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the name ``path`` when the block ends.

    As :func:`write_durably` for a folder that is not there yet, or is empty: if the block raises,
    nothing is left behind. The folder's parent is made where it is missing.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with write_errors(path):
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
