"""How much of the validation text also stands in the training text, span by span.

A span is ``SPAN`` tokens in a row. Spans are compared by a 64-bit polynomial rolling hash whose
digits are scrambled ids; the hashes of the validation split's spans stand in an open-addressing
table, and the training split streams past it. Memory is bounded by ``MAX_SPANS``: where the
validation split has more spans, only every k-th of its documents is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numba import njit

from data_prep.unigram import token_blocks

SPAN = 50
MAX_SPANS = 1 << 24
BASE = np.uint64(0x9E3779B97F4A7C15)
EMPTY = np.uint64(0)

Documents = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class SpanOverlap:
    """How many of the checked validation spans also stand in the training split."""

    length: int
    checked: int
    shared: int

    @property
    def share(self) -> float:
        return self.shared / self.checked if self.checked else 0.0


def span_overlap(train: Iterable[np.ndarray], validation: Documents) -> SpanOverlap:
    """Count the validation spans (every position) that occur anywhere in ``train``.

    Args:
        validation: called for a fresh iteration each time; the split is read twice.
    """
    spans = np.array([max(len(document) - SPAN + 1, 0) for document in validation()], np.int64)
    stride = max(1, -(-int(spans.sum()) // MAX_SPANS))
    # A power of two at most half full.
    capacity = 2 << int(spans[::stride].sum()).bit_length()
    keys = np.zeros(capacity, np.uint64)
    counts = np.zeros(capacity, np.int64)
    seen = np.zeros(capacity, np.bool_)
    for tokens, ends in token_blocks(islice(validation(), 0, None, stride)):
        _insert(tokens, ends, keys, counts)
    for tokens, ends in token_blocks(train):
        _mark(tokens, ends, keys, seen)
    return SpanOverlap(length=SPAN, checked=int(counts.sum()), shared=int(counts[seen].sum()))


@njit(cache=True)
def _scramble(token: int) -> np.uint64:
    """splitmix64's finalizer: ids become digits without structure."""
    x = np.uint64(token) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
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


@njit(cache=True)
def _find(key: np.uint64, keys: np.ndarray) -> np.uint64:
    """Slot of ``key``, or the empty slot where it would stand."""
    mask = np.uint64(len(keys) - 1)
    slot = (key ^ (key >> np.uint64(32))) & mask
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True)
def _insert(tokens: np.ndarray, ends: np.ndarray, keys: np.ndarray, counts: np.ndarray) -> None:
    begin = 0
    for end in ends:
        for key in _span_hashes(tokens[begin:end]):
            slot = _find(key, keys)
            keys[slot] = key
            counts[slot] += 1
        begin = end


@njit(cache=True)
def _mark(tokens: np.ndarray, ends: np.ndarray, keys: np.ndarray, seen: np.ndarray) -> None:
    begin = 0
    for end in ends:
        for key in _span_hashes(tokens[begin:end]):
            slot = _find(key, keys)
            if keys[slot] == key:
                seen[slot] = True
        begin = end
