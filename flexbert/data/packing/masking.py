"""Which tokens are to be predicted, and what the model sees in their place.

Masking works on spans of tokens, each with a key of its own that alone decides everything random in
it. Of a span's n ordinary tokens, floor(rate * n) are selected, and one more with a probability of
the fraction that is left; which ones is decided by selection sampling (Knuth, The Art of Computer
Programming 2, 3.4.2, algorithm S), so that every choice of that many is equally likely. Special
tokens and padding are never selected, nor drawn as replacements.

The random numbers come from SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators"), whole numbers below a bound by Lemire's method without bias (2019, "Fast random
integer generation in an interval"). They stand in this file because numba's cache of compiled
functions notices changes in one file only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from flexbert.config.data import MaskSplit
from flexbert.config.training import IGNORE
from flexbert.data.format.corpus_format import CorpusMeta

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_11, _32 = np.uint64(11), np.uint64(32)
_ONE = np.uint64(1)
_LOW_32 = np.uint64(0xFFFFFFFF)
_UNIT_53 = 1.0 / (1 << 53)


@dataclass(frozen=True)
class Spans:
    """Flat ranges of tokens, in order and apart: span i is ``begins[i]:ends[i]``.

    Attributes:
        keys: uint64, see :func:`span_keys`.
    """

    begins: np.ndarray
    ends: np.ndarray
    keys: np.ndarray


@dataclass(frozen=True)
class MaskedTokens:
    """Selected tokens, in order, padded to a fixed number.

    Attributes:
        positions: int64, flat; padding points at position 0.
        labels: int64, the original ids; padding is ``IGNORE``.
        count: how many there are without padding.
    """

    positions: np.ndarray
    labels: np.ndarray
    count: int


def most_masked(rate: float, num_tokens: int, num_spans: int) -> int:
    """How many tokens can be selected at most from these spans with these tokens in all."""
    return min(math.floor(rate * num_tokens) + num_spans, num_tokens)


class Masker:
    """Selects and replaces tokens.

    Args:
        rate: share of the ordinary tokens to select, at most.
        at_least_one: select one token of a span even where its share would be none.
    """

    def __init__(
        self, meta: CorpusMeta, rate: float, split: MaskSplit, *, at_least_one: bool
    ) -> None:
        self._rate = rate
        self._split = split
        self._at_least_one = at_least_one
        self._mask_id = meta.special_ids.mask
        self._is_ordinary = np.ones(meta.vocab_size, np.bool_)
        self._is_ordinary[list(meta.reserved_ids)] = False
        self._ordinary = np.flatnonzero(self._is_ordinary)

    def capacity(self, num_tokens: int, num_spans: int) -> int:
        """How many tokens can be selected at most from these spans with these tokens in all."""
        return most_masked(self._rate, num_tokens, num_spans)

    def mask(
        self, input_ids: np.ndarray, spans: Spans, capacity: int, rate: float | None = None
    ) -> MaskedTokens:
        """Replace the selected tokens of the spans in ``input_ids`` (int64, flat).

        Args:
            rate: share to select this time; all of the masker's unless told.
        """
        positions = np.zeros(capacity, np.int64)
        labels = np.full(capacity, IGNORE, np.int64)
        count = _mask(
            input_ids,
            spans.begins,
            spans.ends,
            spans.keys,
            self._is_ordinary,
            self._ordinary,
            self._mask_id,
            self._rate if rate is None else rate,
            self._split.mask,
            self._split.mask + self._split.random,
            self._at_least_one,
            positions,
            labels,
        )
        return MaskedTokens(positions, labels, count)


@njit(cache=True)
def span_keys(base: np.uint64, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A key for each pair of numbers, (window, row) or (document, start), under a common base."""
    keys = np.empty(len(first), np.uint64)
    for i in range(len(first)):
        key = _mix(base + _GAMMA * (np.uint64(first[i]) + _ONE))
        keys[i] = _mix(key + _GAMMA * (np.uint64(second[i]) + _ONE))
    return keys


@njit(cache=True)
def _mix(state: np.uint64) -> np.uint64:
    state = (state ^ (state >> _SHIFTS[0])) * _FACTOR_1
    state = (state ^ (state >> _SHIFTS[1])) * _FACTOR_2
    return state ^ (state >> _SHIFTS[2])


@njit(cache=True)
def _uniform(state: np.uint64) -> tuple[np.uint64, float]:
    """The next state, and a number in [0, 1)."""
    state += _GAMMA
    return state, float(_mix(state) >> _11) * _UNIT_53


@njit(cache=True)
def _below(state: np.uint64, bound: int) -> tuple[np.uint64, np.int64]:
    """The next state, and a whole number below ``bound``, which is less than 2**32."""
    bound_64 = np.uint64(bound)
    state += _GAMMA
    product = (_mix(state) >> _32) * bound_64
    if product & _LOW_32 < bound_64:
        too_low = (_LOW_32 - bound_64 + _ONE) % bound_64
        while product & _LOW_32 < too_low:
            state += _GAMMA
            product = (_mix(state) >> _32) * bound_64
    return state, np.int64(product >> _32)


@njit(cache=True)
def _mask(
    input_ids: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    keys: np.ndarray,
    is_ordinary: np.ndarray,
    ordinary: np.ndarray,
    mask_id: int,
    rate: float,
    below_mask: float,
    below_random: float,
    at_least_one: bool,
    positions: np.ndarray,
    labels: np.ndarray,
) -> int:
    """Mask ``input_ids`` in place, fill ``positions`` and ``labels``, return how many."""
    count = 0
    for span in range(len(begins)):
        remaining = 0
        for position in range(begins[span], ends[span]):
            remaining += is_ordinary[input_ids[position]]
        state, draw = _uniform(keys[span])
        share = rate * remaining
        needed = int(share)
        needed += draw < share - needed
        if at_least_one and remaining:
            needed = max(needed, 1)
        position = begins[span]
        while needed:
            token = input_ids[position]
            if is_ordinary[token]:
                state, place = _below(state, remaining)
                remaining -= 1
                if place < needed:
                    needed -= 1
                    positions[count] = position
                    labels[count] = token
                    count += 1
                    state, draw = _uniform(state)
                    if draw < below_mask:
                        input_ids[position] = mask_id
                    elif draw < below_random:
                        state, place = _below(state, len(ordinary))
                        input_ids[position] = ordinary[place]
            position += 1
    return count
