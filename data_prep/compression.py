"""Compressed input files, unpacked as a stream: gzip (``.gz``) and Zstandard (``.zst``).

Files of several gzip members or Zstandard frames are read whole: many tools write such.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import PurePath
from typing import Any, BinaryIO

import zstandard

from flexbert.errors import UserError
from flexbert.files.regular import open_regular

SUFFIXES = (".gz", ".zst")
BUFFER_BYTES = 1 << 20
# A four-byte block of Zstandard may unpack to 128 KiB, so this much to at most 64 MiB.
ZSTD_FEED_BYTES = 1 << 11
# Archives made with --long or --ultra need more than the 128 MiB that are allowed otherwise.
ZSTD_MAX_WINDOW = 1 << 31


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


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a file; errors of the formats become one that names the place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.good = 0
        self.file = _open(path)
        zstd = PurePath(path).suffix.lower() == ".zst"
        self.unpacked: _ZstdFrames | gzip.GzipFile = (
            _ZstdFrames(self.file) if zstd else gzip.GzipFile(fileobj=self.file)
        )
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
        except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
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
