"""Hashes of whole files, read a little at a time: nothing is mapped, so it takes no memory."""

from __future__ import annotations

from typing import BinaryIO

import xxhash

DIGEST_BYTES = 16
_AT_ONCE = 1 << 20


def hash_of(file: BinaryIO, end: int) -> xxhash.xxh3_128:
    """The hash of a file's bytes from where it stands up to ``end``; fewer where it ends before."""
    found = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_AT_ONCE))
    left = end - file.tell()
    while left > 0:
        count = file.readinto(buffer[: min(left, _AT_ONCE)])  # type: ignore[attr-defined]
        if not count:
            break
        found.update(buffer[:count])
        left -= count
    return found
