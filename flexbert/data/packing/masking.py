"""Which tokens are to be predicted, and what the model sees in their place.

Masking works on ranges of tokens, each with a key of its own that alone decides everything random
in it. Of a range's n ordinary tokens, floor(rate * n) are selected, and one more with a probability
of the fraction that is left. Special tokens and padding are never selected, nor drawn as
replacements.

Where single tokens are selected, selection sampling decides which (Knuth, The Art of Computer
Programming 2, 3.4.2, algorithm S), so that every choice of that many is equally likely.

Where words or spans are, all units of the range are gone through in random order (a Fisher-Yates
shuffle as far as it is needed). One that is not selected yet begins a span of a random length, up
to the next token that cannot be selected. A unit with more tokens than are still needed ends its
span and stays. If all units have been gone through and tokens are still needed, the first unit that
was too long gives its first ones: so the number is exact, and at most one unit of a range is cut.

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
from flexbert.config.masking_choice import SINGLE_TOKENS, MaskingConfig
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

# What is known of the borders of words at a token, as bits.
BEGINS_WORD, NEXT_BEGINS_WORD = 1, 2
# What has more tokens between two borders is no word: a language without spaces, a sequence of
# letters, a number of many digits. Its tokens are units on their own.
LONGEST_WORD = 32


@dataclass(frozen=True)
class Ranges:
    """Flat ranges of tokens, in order and apart: range i is ``begins[i]:ends[i]``.

    Attributes:
        keys: uint64, see :func:`range_keys`.
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


def most_masked(rate: float, num_tokens: int, num_ranges: int) -> int:
    """How many tokens can be selected at most from these ranges with these tokens in all."""
    return min(math.floor(rate * num_tokens) + num_ranges, num_tokens)


class Masker:
    """Selects and replaces tokens.

    Args:
        rate: share of the ordinary tokens to select, at most.
        at_least_one: select one token of a range even where its share would be none.
        masking: which tokens are selected together.
        borders: uint8 ``[V]``, of each id ``BEGINS_WORD``, ``NEXT_BEGINS_WORD``, both or 0; None
            makes every token a unit.
    """

    def __init__(
        self,
        meta: CorpusMeta,
        rate: float,
        split: MaskSplit,
        *,
        at_least_one: bool,
        masking: MaskingConfig = SINGLE_TOKENS,
        borders: np.ndarray | None = None,
    ) -> None:
        self._rate = rate
        self._split = split
        self._at_least_one = at_least_one
        self._mask_id = meta.special_ids.mask
        self._is_ordinary = np.ones(meta.vocab_size, np.bool_)
        self._is_ordinary[list(meta.reserved_ids)] = False
        self._ordinary = np.flatnonzero(self._is_ordinary)
        self._replaced_together = masking.replaced_together
        # How likely a span has at most 1, 2, ... units; the last of them for certain.
        self._lengths = np.cumsum(masking.span_lengths)
        self._lengths[-1] = 1.0
        self._by_token = borders is None and len(self._lengths) == 1
        self._borders = (
            np.full(meta.vocab_size, BEGINS_WORD, np.uint8) if borders is None else borders
        )

    def capacity(self, num_tokens: int, num_ranges: int) -> int:
        """How many tokens can be selected at most from these ranges with these tokens in all."""
        return most_masked(self._rate, num_tokens, num_ranges)

    def mask(
        self, input_ids: np.ndarray, ranges: Ranges, capacity: int, rate: float | None = None
    ) -> MaskedTokens:
        """Replace the selected tokens of the ranges in ``input_ids`` (int64, flat).

        Args:
            rate: share to select this time; all of the masker's unless told.
        """
        positions = np.zeros(capacity, np.int64)
        labels = np.full(capacity, IGNORE, np.int64)
        arguments = (
            input_ids,
            ranges.begins,
            ranges.ends,
            ranges.keys,
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
        if self._by_token:
            count = _mask_tokens(*arguments)
        else:
            count = _mask_spans(*arguments, self._borders, self._lengths, self._replaced_together)
        return MaskedTokens(positions, labels, count)


@njit(cache=True)
def range_keys(base: np.uint64, first: np.ndarray, second: np.ndarray) -> np.ndarray:
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
def _mask_tokens(
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
    for range_ in range(len(begins)):
        remaining = 0
        for position in range(begins[range_], ends[range_]):
            remaining += is_ordinary[input_ids[position]]
        state, needed = _number(keys[range_], rate, remaining, at_least_one)
        position = begins[range_]
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


@njit(cache=True)
def _mask_spans(
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
    borders: np.ndarray,
    lengths: np.ndarray,
    replaced_together: bool,
) -> int:
    """As :func:`_mask_tokens`, by spans of units."""
    longest = 0
    for range_ in range(len(begins)):
        longest = max(longest, ends[range_] - begins[range_])
    firsts, sizes = np.empty(longest, np.int64), np.empty(longest, np.int64)
    order = np.empty(longest, np.int64)
    is_selected = np.empty(longest, np.bool_)
    count = 0
    for range_ in range(len(begins)):
        begin = begins[range_]
        tokens = input_ids[begin : ends[range_]]
        num_units, num_ordinary = _units(tokens, is_ordinary, borders, firsts, sizes)
        state, needed = _number(keys[range_], rate, num_ordinary, at_least_one)
        is_selected[: len(tokens)] = False
        state = _select_spans(
            state, needed, firsts[:num_units], sizes[:num_units], lengths, order, is_selected
        )
        draw = 0.0
        for position in range(len(tokens)):
            if not is_selected[position]:
                continue
            token = tokens[position]
            positions[count] = begin + position
            labels[count] = token
            count += 1
            if not replaced_together or position == 0 or not is_selected[position - 1]:
                state, draw = _uniform(state)
            if draw < below_mask:
                tokens[position] = mask_id
            elif draw < below_random:
                state, place = _below(state, len(ordinary))
                tokens[position] = ordinary[place]
    return count


@njit(cache=True)
def _number(
    key: np.uint64, rate: float, num_ordinary: int, at_least_one: bool
) -> tuple[np.uint64, int]:
    """The next state, and how many of a range's ordinary tokens are selected."""
    state, draw = _uniform(key)
    share = rate * num_ordinary
    needed = int(share)
    needed += draw < share - needed
    if at_least_one and num_ordinary:
        needed = max(needed, 1)
    return state, needed


@njit(cache=True)
def _units(
    tokens: np.ndarray,
    is_ordinary: np.ndarray,
    borders: np.ndarray,
    firsts: np.ndarray,
    sizes: np.ndarray,
) -> tuple[int, int]:
    """Find the units of a range: their first positions and sizes; how many, and of what tokens."""
    num_units = num_ordinary = 0
    is_border, is_long = True, False
    for position in range(len(tokens)):
        token = tokens[position]
        if not is_ordinary[token]:
            is_border = True
            continue
        num_ordinary += 1
        is_border = is_border or borders[token] & BEGINS_WORD != 0
        is_long = is_long and not is_border
        if is_border or is_long:
            firsts[num_units] = position
            sizes[num_units] = 0
            num_units += 1
        sizes[num_units - 1] += 1
        is_border = borders[token] & NEXT_BEGINS_WORD != 0
        if sizes[num_units - 1] > LONGEST_WORD:
            is_long = True
            for back in range(sizes[num_units - 1] - 1, -1, -1):
                firsts[num_units - 1] = position - back
                sizes[num_units - 1] = 1
                num_units += back > 0
    return num_units, num_ordinary


@njit(cache=True)
def _select_spans(
    state: np.uint64,
    needed: int,
    firsts: np.ndarray,
    sizes: np.ndarray,
    lengths: np.ndarray,
    order: np.ndarray,
    is_selected: np.ndarray,
) -> np.uint64:
    """Mark exactly ``needed`` tokens of the units; returns the next state."""
    num_units = len(firsts)
    for unit in range(num_units):
        order[unit] = unit
    too_long = -1
    drawn = 0
    while needed and drawn < num_units:
        state, place = _below(state, num_units - drawn)
        unit = order[drawn + place]
        order[drawn + place] = order[drawn]
        drawn += 1
        if is_selected[firsts[unit]]:
            continue
        end = unit + 1
        if len(lengths) > 1:
            state, draw = _uniform(state)
            length = 1
            while draw >= lengths[length - 1]:
                length += 1
            end = min(unit + length, num_units)
        for other in range(unit, end):
            if other > unit and firsts[other] != firsts[other - 1] + sizes[other - 1]:
                break
            if is_selected[firsts[other]]:
                continue
            if sizes[other] > needed:
                if too_long < 0:
                    too_long = other
                break
            is_selected[firsts[other] : firsts[other] + sizes[other]] = True
            needed -= sizes[other]
    if needed:
        is_selected[firsts[too_long] : firsts[too_long] + needed] = True
    return state
