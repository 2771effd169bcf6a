"""How much of the validation text also stands in the training text, span by span.

A span is ``SPAN`` tokens in a row. Spans are compared by a 64-bit polynomial rolling hash whose
digits are scrambled ids; the hashes of the validation split's spans stand in an open-addressing
table, and the training split streams past it, on all cores. Memory is bounded by ``MAX_SPANS``
(about 110 MB): where the validation split has more spans, only every k-th of its documents is
checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit

SPAN = 50
MAX_SPANS = 1 << 22
BASE = np.uint64(0x9E3779B97F4A7C15)
EMPTY = np.uint64(0)

# Consecutive documents: their tokens one after the other, and how many each has.
Blocks = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class SpanOverlap:
    """How many of the checked validation spans also stand in the training split."""

    length: int
    checked: int
    shared: int

    @property
    def share(self) -> float:
        return self.shared / self.checked if self.checked else 0.0


def span_overlap(
    train: Iterable[Callable[[], Blocks]], validation: Callable[[], Blocks], *, workers: int = 1
) -> SpanOverlap:
    """Count the validation spans (every position) that occur anywhere in ``train``.

    Args:
        train: parts of the training split, each called for its blocks, by a thread.
        validation: called for a fresh iteration each time; the split is read twice.
    """
    lengths = np.concatenate([np.empty(0, np.uint32), *(block for _, block in validation())])
    spans = np.maximum(lengths.astype(np.int64) - SPAN + 1, 0)
    stride = max(1, -(-int(spans.sum()) // MAX_SPANS))
    # A power of two at most half full.
    capacity = 1 << (2 * int(spans[::stride].sum())).bit_length()
    keys = np.zeros(capacity, np.uint64)
    counts = np.zeros(capacity, np.uint32)
    seen = np.zeros(capacity, np.bool_)
    number = 0
    for tokens, block in validation():
        _insert(tokens, block, number, stride, keys, counts)
        number += len(block)

    def mark(part: Callable[[], Blocks]) -> None:
        for tokens, block in part():
            # Several threads may set the same flag, all to the same value.
            _mark(tokens, block, keys, seen)

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(mark, train):
            pass
    checked, shared = (int(which.sum(dtype=np.int64)) for which in (counts, counts[seen]))
    return SpanOverlap(length=SPAN, checked=checked, shared=shared)


@njit(cache=True, nogil=True)
def _scramble(token: int) -> np.uint64:
    """splitmix64's finalizer: ids become digits without structure."""
    x = np.uint64(token) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _span_hashes(tokens: np.ndarray) -> np.ndarray:
    """Hash of each span of one document, never EMPTY."""
    hashes = np.empty(max(len(tokens) - SPAN + 1, 0), np.uint64)
    leading = np.uint64(1)  # BASE ** SPAN: the weight of the id that leaves
    for _ in range(SPAN):
        leading *= BASE
    rolling = np.uint64(0)
    for position in range(len(tokens)):
        rolling = rolling * BASE + _scramble(tokens[position])
        if position >= SPAN:
            rolling -= leading * _scramble(tokens[position - SPAN])
        if position >= SPAN - 1:
            hashes[position - SPAN + 1] = max(rolling, np.uint64(1))
    return hashes


@njit(cache=True, nogil=True)
def _find(key: np.uint64, keys: np.ndarray) -> np.uint64:
    """Slot of ``key``, or the empty slot where it would stand."""
    mask = np.uint64(len(keys) - 1)
    slot = (key ^ (key >> np.uint64(32))) & mask
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def _insert(
    tokens: np.ndarray,
    lengths: np.ndarray,
    first: int,
    stride: int,
    keys: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Enter the spans of the documents whose number, from ``first`` on, divides by ``stride``."""
    begin = 0
    for index in range(len(lengths)):
        end = begin + int(lengths[index])
        if (first + index) % stride == 0:
            for key in _span_hashes(tokens[begin:end]):
                slot = _find(key, keys)
                keys[slot] = key
                counts[slot] += 1
        begin = end


@njit(cache=True, nogil=True)
def _mark(tokens: np.ndarray, lengths: np.ndarray, keys: np.ndarray, seen: np.ndarray) -> None:
    begin = 0
    for length in lengths:
        end = begin + int(length)
        for key in _span_hashes(tokens[begin:end]):
            slot = _find(key, keys)
            if keys[slot] == key:
                seen[slot] = True
        begin = end
