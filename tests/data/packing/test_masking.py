from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbert.config.data import MaskSplit
from flexbert.config.training import IGNORE
from flexbert.data.format.corpus_format import CorpusMeta
from flexbert.data.packing.masking import MaskedTokens, Masker, Ranges, range_keys
from tests.data.corpora import FIRST_ORDINARY, RESERVED, SPECIAL

VOCAB_SIZE = 50
META = CorpusMeta(
    tokenizer_sha256="",
    vocab_size=VOCAB_SIZE,
    special_ids=SPECIAL,
    reserved_ids=RESERVED,
    splits={},
)
MASK_64 = (1 << 64) - 1


class SplitMix64:
    """The generator of Steele, Lea and Flood in Python's whole numbers."""

    def __init__(self, state: int) -> None:
        self.state = state

    @staticmethod
    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
        return z ^ (z >> 31)

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK_64
        return self.mix(self.state)

    def uniform(self) -> float:
        return (self.next() >> 11) / (1 << 53)

    def below(self, bound: int) -> int:
        while True:
            product = (self.next() >> 32) * bound
            if product % (1 << 32) >= (1 << 32) % bound:
                return product >> 32


def reference(
    ids: list[int], key: int, rate: float, split: MaskSplit, at_least_one: bool
) -> tuple[list[int], list[int], list[int]]:
    """One range, masked as the module's docstring says: new ids, positions, labels."""
    rng = SplitMix64(key)
    candidates = [i for i, token in enumerate(ids) if token not in RESERVED]
    share = rate * len(candidates)
    needed = math.floor(share) + (rng.uniform() < share - math.floor(share))
    needed = max(needed, 1) if at_least_one and candidates else needed
    masked, positions = list(ids), []
    for seen, position in enumerate(candidates):
        if len(positions) == needed:
            break
        if rng.below(len(candidates) - seen) >= needed - len(positions):
            continue
        positions.append(position)
        fate = rng.uniform()
        if fate < split.mask:
            masked[position] = SPECIAL.mask
        elif fate < split.mask + split.random:
            masked[position] = FIRST_ORDINARY + rng.below(VOCAB_SIZE - FIRST_ORDINARY)
    return masked, positions, [ids[p] for p in positions]


def mask_one(
    ids: np.ndarray, key: int, rate: float, split: MaskSplit, at_least_one: bool = True
) -> tuple[np.ndarray, MaskedTokens]:
    masker = Masker(META, rate, split, at_least_one=at_least_one)
    masked = ids.copy()
    ranges = Ranges(np.array([0]), np.array([len(ids)]), np.array([key], np.uint64))
    return masked, masker.mask(masked, ranges, masker.capacity(len(ids), 1))


def many_ranges(
    num_ranges: int, length: int, rate: float, split: MaskSplit
) -> tuple[np.ndarray, np.ndarray, MaskedTokens]:
    """Ids before and after masking, [ranges, length], and what was selected."""
    ids = np.random.default_rng(0).integers(FIRST_ORDINARY, VOCAB_SIZE, num_ranges * length)
    begins = np.arange(num_ranges) * length
    keys = range_keys(np.uint64(7), np.arange(num_ranges), np.zeros(num_ranges, np.int64))
    masker = Masker(META, rate, split, at_least_one=True)
    masked = ids.copy()
    result = masker.mask(
        masked, Ranges(begins, begins + length, keys), masker.capacity(length, 1) * num_ranges
    )
    return ids.reshape(num_ranges, -1), masked.reshape(num_ranges, -1), result


def within_five_sigma(count: int, trials: int, probability: float) -> bool:
    sigma = math.sqrt(trials * probability * (1 - probability))
    return abs(count - trials * probability) <= 5 * sigma


rates = st.floats(0.01, 1.0)
splits = st.sampled_from(
    [MaskSplit(), MaskSplit(mask=1, random=0, keep=0), MaskSplit(mask=0, random=1, keep=0)]
)


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60),
    st.integers(0, MASK_64),
    rates,
    splits,
    st.booleans(),
)
def test_masking_equals_the_reference(
    ids: list[int], key: int, rate: float, split: MaskSplit, at_least_one: bool
) -> None:
    masked, result = mask_one(np.array(ids, np.int64), key, rate, split, at_least_one)
    expected, positions, labels = reference(ids, key, rate, split, at_least_one)
    assert masked.tolist() == expected
    assert result.positions[: result.count].tolist() == positions
    assert result.labels[: result.count].tolist() == labels
    assert not result.positions[result.count :].any()
    assert (result.labels[result.count :] == IGNORE).all()


def test_range_keys_equal_the_reference() -> None:
    gamma = 0x9E3779B97F4A7C15
    first = SplitMix64.mix((5 + gamma * 12) & MASK_64)
    second = SplitMix64.mix((first + gamma * 4) & MASK_64)
    assert range_keys(np.uint64(5), np.array([11]), np.array([3])).tolist() == [second]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), rates)
def test_the_stated_capacity_holds_the_worst_case(sizes: list[int], rate: float) -> None:
    ends = np.cumsum(sizes)
    masker = Masker(META, rate, MaskSplit(), at_least_one=True)
    capacity = masker.capacity(int(ends[-1]), len(sizes))
    most = sum(max(math.ceil(rate * size), size > 0) for size in sizes)
    assert min(most, ends[-1]) <= capacity


def test_the_selected_number_is_the_rate_rounded_up_or_down() -> None:
    _, _, result = many_ranges(20_000, 7, 0.3, MaskSplit())
    selected = np.bincount(result.positions[: result.count] // 7, minlength=20_000)
    assert set(selected.tolist()) == {2, 3}
    assert within_five_sigma(int((selected == 3).sum()), 20_000, 0.1)  # 0.3 * 7 = 2.1


def test_every_position_is_selected_equally_often_and_independently() -> None:
    num_ranges, length, needed = 50_000, 10, 3
    _, _, result = many_ranges(num_ranges, length, 0.3, MaskSplit())
    selected = np.zeros((num_ranges, length), bool)
    selected.reshape(-1)[result.positions[: result.count]] = True
    for position in range(length):
        assert within_five_sigma(int(selected[:, position].sum()), num_ranges, needed / length)
    # Two positions of one range are drawn without replacement; of neighbouring ranges, freely.
    both = int((selected[:, 0] & selected[:, 1]).sum())
    assert within_five_sigma(both, num_ranges, needed * (needed - 1) / (length * (length - 1)))
    both = int((selected[:-1, 0] & selected[1:, 0]).sum())
    assert within_five_sigma(both, num_ranges - 1, (needed / length) ** 2)


def test_fates_follow_their_parts_and_replacements_are_uniform() -> None:
    split = MaskSplit(mask=0.5, random=0.3, keep=0.2)
    ids, masked, result = many_ranges(20_000, 20, 0.5, split)
    positions = result.positions[: result.count]
    before, after = ids.reshape(-1)[positions], masked.reshape(-1)[positions]
    is_masked = after == SPECIAL.mask
    num_ordinary = VOCAB_SIZE - FIRST_ORDINARY
    assert within_five_sigma(int(is_masked.sum()), result.count, 0.5)
    # A random replacement may be the original.
    changed = (after != before) & ~is_masked
    assert within_five_sigma(int(changed.sum()), result.count, 0.3 * (1 - 1 / num_ordinary))
    drawn = np.bincount(after[changed], minlength=VOCAB_SIZE)
    assert not drawn[:FIRST_ORDINARY].any()
    for token in range(FIRST_ORDINARY, VOCAB_SIZE):
        assert within_five_sigma(int(drawn[token]), int(changed.sum()), 1 / num_ordinary)


def test_reserved_ids_are_neither_selected_nor_drawn() -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB_SIZE, 5_000)
    masked, result = mask_one(ids, 3, 1.0, MaskSplit(mask=0, random=1, keep=0))
    ordinary = ids >= FIRST_ORDINARY
    np.testing.assert_array_equal(masked[~ordinary], ids[~ordinary])
    np.testing.assert_array_equal(result.positions[: result.count], np.flatnonzero(ordinary))
    assert (masked[ordinary] >= FIRST_ORDINARY).all()


@pytest.mark.parametrize(("at_least_one", "selected"), [(True, 200), (False, 0)])
def test_training_selects_at_least_one_token(at_least_one: bool, selected: int) -> None:
    ids = np.array([SPECIAL.cls, FIRST_ORDINARY, SPECIAL.sep])
    counts = [mask_one(ids, key, 1e-9, MaskSplit(), at_least_one)[1].count for key in range(200)]
    assert sum(counts) == selected
