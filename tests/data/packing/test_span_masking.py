"""Whole-word and span masking, against a plain reference and what the papers say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbert.config.data import MaskSplit
from flexbert.config.masking_choice import (
    TOKEN,
    MaskingConfig,
    SpanMasking,
    TokenMasking,
    WholeWordMasking,
)
from flexbert.data.packing.masking import (
    BEGINS_WORD,
    LONGEST_WORD,
    NEXT_BEGINS_WORD,
    MaskedTokens,
    Masker,
    Ranges,
    range_keys,
)
from tests.data.corpora import FIRST_ORDINARY, RESERVED, SPECIAL
from tests.data.packing.test_masking import MASK_64, META, VOCAB_SIZE, SplitMix64, within_five_sigma

# Of four ordinary ids one begins a word; the last two of the vocabulary are words by themselves.
BORDERS = np.array(
    [BEGINS_WORD if index % 4 == 0 else 0 for index in range(VOCAB_SIZE - 2)]
    + [BEGINS_WORD | NEXT_BEGINS_WORD, NEXT_BEGINS_WORD],
    np.uint8,
)
BERTS = MaskSplit()
KINDS: dict[str, MaskingConfig] = {
    "whole words": WholeWordMasking(),
    "spans": SpanMasking(),
    "short spans": SpanMasking(p=0.5, max_length=3),
    "spans of tokens": SpanMasking(unit=TOKEN),
}


def words_of(ids: list[int], borders: np.ndarray) -> list[list[int]]:
    """The positions of each word, by the rule as it is written."""
    words: list[list[int]] = []
    for position, token in enumerate(ids):
        if token in RESERVED:
            continue
        before = ids[position - 1] if position else None
        begins = (
            before is None
            or before in RESERVED
            or borders[token] in (BEGINS_WORD, BEGINS_WORD | NEXT_BEGINS_WORD)
            or borders[before] >= NEXT_BEGINS_WORD
        )
        if begins:
            words.append([])
        words[-1].append(position)
    return [
        part
        for word in words
        for part in ([word] if len(word) <= LONGEST_WORD else [[position] for position in word])
    ]


def reference(
    ids: list[int],
    key: int,
    rate: float,
    split: MaskSplit,
    masking: MaskingConfig,
    borders: np.ndarray,
) -> tuple[list[int], list[int]]:
    """One range, masked as the module's docstring says: new ids, positions."""
    rng = SplitMix64(key)
    if masking.units == TOKEN:
        borders = np.full(VOCAB_SIZE, BEGINS_WORD)
    units = words_of(ids, borders)
    share = rate * sum(map(len, units))
    needed = math.floor(share) + (rng.uniform() < share - math.floor(share))
    needed = max(needed, 1) if units else 0
    selected: set[int] = set()
    too_long: list[list[int]] = []
    order = list(range(len(units)))
    at_most = np.cumsum(masking.span_lengths).tolist()
    for drawn in range(len(units)):
        if len(selected) == needed:
            break
        place = drawn + rng.below(len(units) - drawn)
        order[drawn], order[place] = order[place], order[drawn]
        first = order[drawn]
        if selected.issuperset(units[first]):
            continue
        length = 1
        if len(at_most) > 1:
            draw = rng.uniform()
            length = 1 + sum(draw >= border for border in at_most[:-1])
        for number in range(first, min(first + length, len(units))):
            if number > first and units[number][0] != units[number - 1][-1] + 1:
                break
            if selected.issuperset(units[number]):
                continue
            if len(units[number]) > needed - len(selected):
                too_long.append(units[number])
                break
            selected.update(units[number])
    if len(selected) < needed:
        selected.update(too_long[0][: needed - len(selected)])
    masked = list(ids)
    fate = 0.0
    for position in sorted(selected):
        if not masking.replaced_together or position - 1 not in selected:
            fate = rng.uniform()
        if fate < split.mask:
            masked[position] = SPECIAL.mask
        elif fate < split.mask + split.random:
            masked[position] = FIRST_ORDINARY + rng.below(VOCAB_SIZE - FIRST_ORDINARY)
    return masked, sorted(selected)


def masker(masking: MaskingConfig, rate: float, split: MaskSplit, borders: np.ndarray) -> Masker:
    own = None if masking.units == TOKEN else borders
    return Masker(META, rate, split, at_least_one=True, masking=masking, borders=own)


def mask_ranges(
    masking: MaskingConfig,
    ids: np.ndarray,
    rate: float,
    split: MaskSplit = BERTS,
    borders: np.ndarray = BORDERS,
) -> tuple[np.ndarray, MaskedTokens]:
    """``ids [ranges, length]`` masked, each range by a key of its own."""
    num_ranges, length = ids.shape
    begins = np.arange(num_ranges) * length
    keys = range_keys(np.uint64(7), np.arange(num_ranges), np.zeros(num_ranges, np.int64))
    made = masker(masking, rate, split, borders)
    masked = ids.reshape(-1).copy()
    capacity = made.capacity(length, 1) * num_ranges
    result = made.mask(masked, Ranges(begins, begins + length, keys), capacity)
    return masked.reshape(ids.shape), result


def selection(result: MaskedTokens, shape: tuple[int, ...]) -> np.ndarray:
    selected = np.zeros(shape, bool)
    selected.reshape(-1)[result.positions[: result.count]] = True
    return selected


def some_ids(num_ranges: int, length: int, first: int = FIRST_ORDINARY) -> np.ndarray:
    return np.random.default_rng(0).integers(first, VOCAB_SIZE, (num_ranges, length))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(
    # Now and then a run of one id, so that some words are too long to be any.
    st.lists(st.tuples(st.integers(0, VOCAB_SIZE - 1), st.sampled_from([1, 1, 1, 1, 40]))),
    st.integers(0, MASK_64),
    st.floats(0.01, 1.0),
    st.sampled_from([MaskSplit(), MaskSplit(mask=0, random=1, keep=0)]),
)
def test_masking_equals_the_reference(
    kind: str, runs: list[tuple[int, int]], key: int, rate: float, split: MaskSplit
) -> None:
    ids = [token for token, times in runs for _ in range(times)]
    made = masker(KINDS[kind], rate, split, BORDERS)
    masked = np.array(ids, np.int64)
    one = Ranges(np.array([0]), np.array([len(ids)]), np.array([key], np.uint64))
    result = made.mask(masked, one, made.capacity(len(ids), 1))
    expected, positions = reference(ids, key, rate, split, KINDS[kind], BORDERS)
    assert masked.tolist() == expected
    assert result.positions[: result.count].tolist() == positions
    assert result.labels[: result.count].tolist() == [ids[position] for position in positions]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.15, 0.3, 0.77])
def test_as_many_tokens_are_selected_as_token_masking_selects(kind: str, rate: float) -> None:
    ids = some_ids(2_000, 50, first=0)
    _, ours = mask_ranges(KINDS[kind], ids, rate)
    _, theirs = mask_ranges(TokenMasking(), ids, rate, borders=np.full(VOCAB_SIZE, BEGINS_WORD))
    counts = [selection(result, ids.shape).sum(1).tolist() for result in (ours, theirs)]
    assert counts[0] == counts[1]


def test_words_are_selected_whole_but_for_one_of_a_range() -> None:
    ids = some_ids(2_000, 60)
    _, result = mask_ranges(WholeWordMasking(), ids, 0.3)
    selected = selection(result, ids.shape)
    whole = cut = 0
    for row, chosen in zip(ids.tolist(), selected, strict=True):
        words = words_of(row, BORDERS)
        parts = [word for word in words if chosen[word].any() and not chosen[word].all()]
        whole += sum(bool(chosen[word].all()) for word in words)
        cut += len(parts)
        assert len(parts) <= 1
        # It is cut where no other word would have fitted.
        for part in parts:
            assert all(len(word) > chosen[part].sum() for word in words if not chosen[word].any())
    assert cut < whole / 100


def test_every_word_of_one_size_is_selected_equally_often_and_independently() -> None:
    # Words of two tokens: an even id, which is a multiple of four, and one that goes on.
    num_ranges, num_words, needed = 40_000, 10, 3
    ids = np.tile(np.array([12, 13]), (num_ranges, num_words))
    _, result = mask_ranges(WholeWordMasking(), ids, 0.3)
    words = selection(result, ids.shape).reshape(num_ranges, num_words, 2)
    assert (words[..., 0] == words[..., 1]).all()
    chosen = words[..., 0]
    for word in range(num_words):
        assert within_five_sigma(int(chosen[:, word].sum()), num_ranges, needed / num_words)
    both = int((chosen[:, 0] & chosen[:, 1]).sum())
    probability = needed * (needed - 1) / (num_words * (num_words - 1))
    assert within_five_sigma(both, num_ranges, probability)


def test_spans_have_the_lengths_of_spanbert() -> None:
    """Alone in a long range, a span is geometric up to its most, 3.8 words in the mean."""
    shares = np.array(SpanMasking().span_lengths)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares[1:] / shares[:-1], 0.8)
    assert (shares * np.arange(1, 11)).sum() == pytest.approx(3.8, abs=0.01)
    num_ranges, length = 20_000, 200
    ids = np.full((num_ranges, length), 12)
    _, result = mask_ranges(SpanMasking(), ids, 12 / length)
    selected = selection(result, ids.shape)
    # Twelve words: the first span, and what others add. The reference of the paper's own words
    # draws anchors until there are enough; here both are compared by their runs.
    ours = np.bincount(run_lengths(selected), minlength=13)
    theirs = np.bincount(run_lengths(drawn_by_the_paper(num_ranges, length, 12)), minlength=13)
    total = ours.sum() + theirs.sum()
    for mine, other in zip(ours, theirs, strict=True):
        expected = (mine + other) / total
        sigma = math.sqrt(2 * num_ranges * max(expected, 1e-9) * 4)
        assert abs(mine - other) <= 5 * sigma


def drawn_by_the_paper(num_ranges: int, length: int, needed: int) -> np.ndarray:
    """Spans at anchors drawn again and again until ``needed`` words are selected, the last cut."""
    rng = np.random.default_rng(3)
    shares = 0.2 * 0.8 ** np.arange(10)
    lengths = rng.choice(np.arange(1, 11), size=(num_ranges, 100), p=shares / shares.sum())
    anchors = rng.integers(0, length, (num_ranges, 100))
    selected = np.zeros((num_ranges, length), bool)
    for row, chosen in enumerate(selected):
        for anchor, span in zip(anchors[row], lengths[row], strict=True):
            left = needed - int(chosen.sum())
            if not left:
                break
            if not chosen[anchor]:
                new = [p for p in range(anchor, min(anchor + span, length)) if not chosen[p]]
                chosen[new[:left]] = True
    return selected


def run_lengths(selected: np.ndarray) -> np.ndarray:
    padded = np.pad(selected, ((0, 0), (0, 1))).reshape(-1)
    edges = np.flatnonzero(np.diff(padded.astype(np.int8), prepend=0, append=0))
    return edges[1::2] - edges[::2]


def test_a_span_is_replaced_in_one_way_and_words_token_by_token() -> None:
    ids = some_ids(4_000, 60)
    split = MaskSplit(mask=0.5, random=0, keep=0.5)
    for masking in (SpanMasking(), WholeWordMasking()):
        masked, result = mask_ranges(masking, ids, 0.3, split)
        selected = selection(result, ids.shape)
        is_masked = masked == SPECIAL.mask
        inside = selected[:, 1:] & selected[:, :-1]
        same = int((is_masked[:, 1:] == is_masked[:, :-1])[inside].sum())
        if masking.replaced_together:
            assert same == inside.sum()
        else:
            assert within_five_sigma(same, int(inside.sum()), 0.5)


def test_spans_end_where_a_sequence_does() -> None:
    """A word after [SEP] [CLS] is no more likely beside a selected one than anywhere."""
    ids = np.full((20_000, 21), 12)
    ids[:, 10] = SPECIAL.sep
    _, result = mask_ranges(SpanMasking(), ids, 0.15)
    selected = selection(result, ids.shape)
    assert not selected[:, 10].any()
    first, last, after = selected[:, 8].mean(), selected[:, 9], selected[:, 11]
    assert (selected[:, 9] & selected[:, 8]).mean() > 2 * first * last.mean()
    assert (last & after).mean() < 1.2 * last.mean() * after.mean()


def test_a_key_alone_decides() -> None:
    ids = some_ids(6, 60)
    whole, _ = mask_ranges(SpanMasking(), ids, 0.3)
    made = masker(SpanMasking(), 0.3, MaskSplit(), BORDERS)
    keys = range_keys(np.uint64(7), np.arange(6), np.zeros(6, np.int64))
    for row in range(6):
        alone = ids[row].copy()
        one = Ranges(np.array([0]), np.array([60]), keys[row : row + 1])
        made.mask(alone, one, made.capacity(60, 1))
        np.testing.assert_array_equal(alone, whole[row])
