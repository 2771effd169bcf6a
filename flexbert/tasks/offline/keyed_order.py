"""Orders and choices that depend on the items alone.

An item's place is a hash of its name, so that one package more, or another order of a folder,
moves no other item.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash


def keyed_number(key: str, purpose: str) -> int:
    """A number from 0 to 2^64 - 1 that looks random, the same everywhere."""
    return xxhash.xxh3_64_intdigest(f"{purpose}\0{key}")


def keyed_order(keys: Iterable[str], purpose: str) -> list[str]:
    """Keys in an order that looks random, the same whatever the order they come in.

    Args:
        purpose: two purposes have unrelated orders.
    """
    return sorted(keys, key=lambda key: (keyed_number(key, purpose), key))
