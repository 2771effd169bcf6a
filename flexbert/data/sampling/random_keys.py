"""Keys that everything random in the data order is derived from."""

from __future__ import annotations

import hashlib
import json


def derive_key(*parts: str | int) -> int:
    """A 128-bit key: a BLAKE2b digest of the parts, the same in every process and on every day."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")
