"""Keys that everything random in the data order is derived from."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def derive_key(*parts: str | int) -> int:
    """A 128-bit key: a BLAKE2b digest of the parts, the same in every process and on every day."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def number_dtype(num_items: int) -> np.dtype:
    """The dtype that numbers so many items: uint32 as long as it can."""
    return np.dtype(np.uint32 if num_items <= 1 << 32 else np.uint64)


def shuffled(num_items: int, key: int) -> np.ndarray:
    """The numbers below ``num_items`` in a random order: a PCG64DXSM shuffle of a plain array."""
    items = np.arange(num_items, dtype=number_dtype(num_items))
    np.random.Generator(np.random.PCG64DXSM(key)).shuffle(items)
    return items
