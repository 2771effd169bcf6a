"""Compressed input files, unpacked as a stream: ``.gz``, ``.zst``, ``.bz2`` and ``.xz``.

Files of several gzip members, Zstandard frames or streams of the others are read whole: many tools
write such.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, BinaryIO, Protocol

import zstandard

from flexbert.errors import UserError
from flexbert.files.regular import open_regular

BUFFER_BYTES = 1 << 20
# A four-byte block of Zstandard may unpack to 128 KiB, so this much to at most 64 MiB.
ZSTD_FEED_BYTES = 1 << 11
# Archives made with --long or --ultra need more than the 128 MiB that are allowed otherwise.
ZSTD_MAX_WINDOW = 1 << 31
# What unpacking an .xz file may take; xz itself makes none that needs more than 65 MiB.
XZ_MAX_MEMORY = 1 << 30


class _CorruptStreamError(Exception):
    """Bytes of a ``.bz2`` or ``.xz`` file that are none of its format."""


# What the formats raise of bytes that are none of theirs.
CORRUPT = (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, _CorruptStreamError)


class DamagedFileError(UserError):
    """A compressed file cannot be unpacked to its end."""


class TruncatedFileError(DamagedFileError):
    """A compressed file is cut off; what came before has been read, and is good."""


def is_compressed_text(path: str | PurePath) -> bool:
    return PurePath(path).suffix.lower() in SUFFIXES


def open_input(path: str) -> BinaryIO:
    """Open a file for reading its unpacked bytes.

    Reading raises :class:`TruncatedFileError` where a compressed file is cut off, after all that is
    before, and :class:`DamagedFileError` where it is corrupt. (Corruption may show late: the check
    sum of a gzip member comes at its end.)
    """
    if not is_compressed_text(path):
        return _open(path)
    return io.BufferedReader(_Unpacked(path), BUFFER_BYTES)


def _open(path: str) -> BinaryIO:
    # What was a file when inputs were found may be none by now.
    return open_regular(path, buffering=BUFFER_BYTES)


class _Unpacker(Protocol):
    """Where unpacked bytes come from."""

    def read1(self, size: int, /) -> bytes:
        """At most so many bytes of at most one read; EOFError where the file is cut off."""

    def close(self) -> None: ...


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a file; errors of the formats become one that names the place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.good = 0
        self.file = _open(path)
        self.unpacked = UNPACKERS[PurePath(path).suffix.lower()](self.file)
        self.empty = os.stat(path).st_size == 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # Neither format has a file of no bytes: this is a download that never began.
            if self.empty:
                raise EOFError("the file is empty")
            # At most one read: an error then never takes with it what came before.
            data = self.unpacked.read1(len(buffer))
        except EOFError as error:
            raise TruncatedFileError(
                f"{self.path}: cut off after {self.good:,} unpacked bytes; fetch it again, "
                "or keep what there is with --keep-truncated"
            ) from error
        except CORRUPT as error:
            raise DamagedFileError(
                f"{self.path}: corrupt at or before {self.good:,} unpacked bytes ({error}); "
                "fetch it again"
            ) from error
        buffer[: len(data)] = data
        self.good += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.unpacked.close()
            self.file.close()
        super().close()


class _ZstdFrames:
    """Frame after frame; unlike zstandard's own stream reader it tells a cut-off frame."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.frame: zstandard.ZstdDecompressionObj | None = None
        self.packed = b""
        self.unpacked = io.BytesIO()

    def read1(self, size: int) -> bytes:
        while not (data := self.unpacked.read(size)):
            self.packed = self.packed or self.file.read(ZSTD_FEED_BYTES)
            if not self.packed:
                if self.frame is not None:
                    raise EOFError("the file ends within a frame")
                return b""
            if self.frame is None:
                unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW)
                self.frame = unpacker.decompressobj()
            self.unpacked = io.BytesIO(self.frame.decompress(self.packed))
            self.packed = self.frame.unused_data
            if self.frame.eof:
                self.frame = None
        return data

    def close(self) -> None:
        self.frame = None


class _Decompressor(Protocol):
    """What ``bz2`` and ``lzma`` have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Streams:
    """Stream after stream; unlike the standard library's own files it takes no garbage after the
    first one for the end.
    """

    def __init__(
        self, file: BinaryIO, new: Callable[[], _Decompressor], *, padding: bytes = b""
    ) -> None:
        self.file = file
        self.new = new
        self.padding = padding
        self.stream: _Decompressor | None = None
        self.packed = b""

    def read1(self, size: int) -> bytes:
        data = b""
        while not data and self._feed():
            data = self._decompress(size)
        return data

    def _feed(self) -> bool:
        """See to it that a stream is open and has what it needs; False at the end of the file."""
        while self.stream is None:
            self.packed = self.packed.lstrip(self.padding)
            if self.packed:
                self.stream = self.new()
            elif not self._read():
                return False
        if self.stream.needs_input and not self.packed and not self._read():
            raise EOFError("the file ends within a stream")
        return True

    def _read(self) -> bool:
        self.packed = self.file.read(BUFFER_BYTES)
        return bool(self.packed)

    def _decompress(self, size: int) -> bytes:
        assert self.stream is not None
        try:
            # At most so much: a few bytes may stand for gigabytes.
            data = self.stream.decompress(self.packed, size)
        except (OSError, lzma.LZMAError) as error:  # bz2 raises the former
            raise _CorruptStreamError(str(error)) from error
        self.packed = b""
        if self.stream.eof:
            self.packed = self.stream.unused_data
            self.stream = None
        return data

    def close(self) -> None:
        self.stream = None


def _unpack_gzip(file: BinaryIO) -> _Unpacker:
    return gzip.GzipFile(fileobj=file)


def _unpack_bzip2(file: BinaryIO) -> _Unpacker:
    return _Streams(file, bz2.BZ2Decompressor)


def _unpack_xz(file: BinaryIO) -> _Unpacker:
    def new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MAX_MEMORY)

    # Zeros may stand between and after its streams.
    return _Streams(file, new, padding=b"\0")


UNPACKERS: dict[str, Callable[[BinaryIO], _Unpacker]] = {
    ".gz": _unpack_gzip,
    ".zst": _ZstdFrames,
    ".bz2": _unpack_bzip2,
    ".xz": _unpack_xz,
}
SUFFIXES = tuple(UNPACKERS)
