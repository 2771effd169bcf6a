"""Uniformly random permutations of any size, in little memory.

Up to ``IN_MEMORY`` items a permutation is one PCG64DXSM shuffle. A larger one is made by
Rao-Sandelius shuffling (Rao 1961; Sandelius 1962, "A simple randomization procedure"): every item
draws one of B bins, and each bin is then shuffled by itself. The bins' sizes come out as
they would in a shuffle of the whole, so that all orders are equally likely. It needs the memory of
one bin instead of all items, and stays within the processor's caches: a shuffle of 1e9 items
in one chunk waits for memory most of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numba import njit

from flexbert.data.sampling.random_keys import derive_key
from flexbert.files.durable import hand_to_disk
from flexbert.files.node_arrays import DIRTY_BYTES, IN_MEMORY, node_array
from flexbert.files.progress_bar import ProgressBar

BIN_ITEMS = 1 << 22  # in a bin on average
_AT_ONCE = 1 << 22  # items that draw their bins together


def number_dtype(num_items: int) -> np.dtype:
    """The dtype that numbers this many items: uint32 as long as it can."""
    return np.dtype(np.uint32 if num_items <= 1 << 32 else np.uint64)


def shuffled(num_items: int, key: int) -> np.ndarray:
    """The numbers below ``num_items`` in a random order that ``key`` decides."""
    items = np.arange(num_items, dtype=number_dtype(num_items))
    _generator(key).shuffle(items)
    return items


def permutation(num_items: int, key: int, cache: Path) -> np.ndarray:
    """A permutation of the numbers below ``num_items``, which only ``key`` decides.

    A large one is made once a node, by whichever process comes first, and memory-mapped by all.

    Raises:
        UserError: if its file cannot be written or read.
    """
    if num_items <= IN_MEMORY:
        return shuffled(num_items, key)
    file = cache / f"{key:032x}-{num_items}.order"
    return node_array(
        file, number_dtype(num_items), lambda out: write_permutation(out, num_items, key)
    )


def write_permutation(out: BinaryIO, num_items: int, key: int) -> None:
    """Fill an empty file with a permutation of the numbers below ``num_items``."""
    ProgressBar.announce(f"making the order of {num_items:,} chunks, once a node: {out.name}")
    dtype = number_dtype(num_items)
    num_bins = -(-num_items // BIN_ITEMS)
    sizes = np.zeros(num_bins, np.int64)
    for draws in _draws(num_items, num_bins, key):
        sizes += np.bincount(draws, minlength=num_bins)
    begins = np.cumsum(sizes) - sizes
    file = out.fileno()
    os.truncate(file, num_items * dtype.itemsize)
    with ProgressBar(total=2 * num_items, unit=" items", unit_scale=True, disable=None) as progress:
        written = begins.copy()
        first = 0
        for draws in _draws(num_items, num_bins, key):
            items, counts = _by_bin(draws, num_bins, np.arange(0, dtype=dtype), first)
            ends = np.cumsum(counts)
            for bin in np.flatnonzero(counts):
                part = items[ends[bin] - counts[bin] : ends[bin]]
                _write_at(file, part, int(written[bin]))
            written += counts
            first += len(draws)
            if first * dtype.itemsize % DIRTY_BYTES < len(draws) * dtype.itemsize:
                hand_to_disk(out)
            progress.update(len(draws))
        dirty = 0
        for bin, (begin, size) in enumerate(zip(begins.tolist(), sizes.tolist(), strict=True)):
            items = np.empty(size, dtype)
            _read_at(file, items, begin)
            _generator(derive_key("bucket", key, bin)).shuffle(items)
            _write_at(file, items, begin)
            dirty += items.nbytes
            if dirty >= DIRTY_BYTES:
                hand_to_disk(out)
                dirty = 0
            progress.update(size)


def _generator(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64DXSM(key))


def _draws(num_items: int, num_bins: int, key: int) -> Iterator[np.ndarray]:
    """The bin of every item, block by block, the same each time."""
    generator = _generator(derive_key("buckets", key))
    for begin in range(0, num_items, _AT_ONCE):
        count = min(_AT_ONCE, num_items - begin)
        yield generator.integers(0, num_bins, count, dtype=np.uint32)


@njit(cache=True)
def _by_bin(
    draws: np.ndarray, num_bins: int, like: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers from ``first`` on, those of each bin together, and how many each has."""
    counts = np.zeros(num_bins, np.int64)
    for bin in draws:
        counts[bin] += 1
    filled = np.cumsum(counts) - counts
    items = np.empty(len(draws), like.dtype)
    for i in range(len(draws)):
        bin = draws[i]
        items[filled[bin]] = first + i
        filled[bin] += 1
    return items, counts


def _write_at(file: int, items: np.ndarray, index: int) -> None:
    view = items.view(np.uint8).data
    offset = index * items.itemsize
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def _read_at(file: int, items: np.ndarray, index: int) -> None:
    view = items.view(np.uint8).data
    offset = index * items.itemsize
    while view:
        count = os.preadv(file, [view], offset)
        view, offset = view[count:], offset + count
