from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexbert.data.packing.best_fit import Packing, enough_sequences, pack

UNLIMITED = 1 << 40


def reference(lengths: list[int], capacity: int, max_sequences: int) -> list[list[int]]:
    """The rows' lengths by the better of two rules."""
    by_rule = [
        plain_search(lengths, capacity, max_sequences, short) for short in (capacity // 16, 0)
    ]
    return min(by_rule, key=len)


def plain_search(
    lengths: list[int], capacity: int, max_sequences: int, short: int
) -> list[list[int]]:
    """The rows' lengths by one rule, every row looked at for every chunk.

    Of rows with the same room, the one that was filled last is taken.
    """
    planned = math.ceil(sum(lengths) * 1.001 / capacity)
    rows: list[list[int]] = []  # the one that was filled last stands first
    for length in sorted(lengths, reverse=True):
        fits = [r for r in rows if len(r) < max_sequences and sum(r) + length <= capacity]
        if length > short:
            row = max(fits, key=sum, default=None)
        else:
            row = min(fits, key=sum, default=None) if len(rows) >= planned else None
        rows = [r for r in rows if r is not row]
        rows.insert(0, [*(row or []), length])
    return rows


def best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    """How many rows the textbook's algorithm needs."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [i for i, room in enumerate(rooms) if room >= length]
        if fits:
            rooms[min(fits, key=rooms.__getitem__)] -= length
        else:
            rooms.append(capacity - length)
    return len(rooms)


def web_chunks(num_chunks: int, mean: int, max_length: int, seed: int = 0) -> np.ndarray:
    """Lognormal documents of at least 4 tokens, cut to chunks, in random order."""
    generator = np.random.default_rng(seed)
    sigma = 1.2
    drawn = generator.lognormal(math.log(mean) - sigma**2 / 2, sigma, num_chunks).astype(np.int64)
    documents = np.maximum(drawn, 4)
    content = max_length - 2
    buckets = -(-documents // content)
    chunks = np.full(buckets.sum(), max_length)
    chunks[np.cumsum(buckets) - 1] = documents - (buckets - 1) * content + 2
    generator.shuffle(chunks)
    return chunks[:num_chunks]


def row_loads(packing: Packing, lengths: np.ndarray) -> np.ndarray:
    return np.add.reduceat(lengths[packing.members], packing.offsets[:-1])


lengths_and_capacity = st.integers(1, 80).flatmap(
    lambda capacity: st.tuples(
        st.lists(st.integers(1, capacity), min_size=1, max_size=80), st.just(capacity)
    )
)


@given(lengths_and_capacity, st.integers(1, 8))
def test_every_chunk_stands_once_in_a_row_that_holds_it(
    case: tuple[list[int], int], max_sequences: int
) -> None:
    lengths, capacity = np.array(case[0]), case[1]
    packing = pack(lengths, capacity, max_sequences)
    assert sorted(packing.members) == list(range(len(lengths)))
    assert row_loads(packing, lengths).max() <= capacity
    sizes = np.diff(packing.offsets)
    assert 1 <= sizes.min() <= sizes.max() <= max_sequences


@given(lengths_and_capacity, st.sampled_from([1, 2, 3, 8, UNLIMITED]))
def test_packing_equals_a_plain_search_over_all_rows(
    case: tuple[list[int], int], max_sequences: int
) -> None:
    lengths, capacity = np.array(case[0]), case[1]
    packing = pack(lengths, capacity, max_sequences)
    expected = [sum(row) for row in reference(case[0], capacity, max_sequences)]
    assert sorted(row_loads(packing, lengths)) == sorted(expected)


@given(lengths_and_capacity)
def test_it_needs_no_more_rows_than_best_fit_decreasing(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    rows = pack(np.array(lengths), capacity, UNLIMITED).num_rows
    assert rows <= best_fit_decreasing(lengths, capacity)


@pytest.mark.parametrize("shortest", [2, 100, 300])
@pytest.mark.parametrize("capacity", [1024, 8192, 16_384])
def test_the_limit_of_sequences_costs_little_whatever_the_lengths(
    shortest: int, capacity: int
) -> None:
    generator = np.random.default_rng(shortest)
    lengths = generator.integers(shortest, 501, 1 << 14)
    limited = pack(lengths, capacity, enough_sequences(lengths, capacity)).num_rows
    assert limited <= 1.0025 * pack(lengths, capacity, UNLIMITED).num_rows


@pytest.mark.parametrize("mean", [300, 500, 2000])
@pytest.mark.parametrize(
    ("capacity", "max_length"), [(1024, 1024), (8192, 1024), (8192, 8192), (16_384, 8192)]
)
def test_rows_of_web_chunks_are_99_and_a_half_percent_full(
    mean: int, capacity: int, max_length: int
) -> None:
    chunks = web_chunks(4 * 16_384, mean, max_length).reshape(4, -1)
    limit = enough_sequences(chunks[0], capacity)
    rows = sum(pack(window, capacity, limit).num_rows for window in chunks)
    assert chunks.sum() / (rows * capacity) > 0.995
    if capacity > max_length:  # else most rows hold one chunk, and the mean says nothing
        assert limit <= 4 * chunks.size / rows


def test_enough_sequences_never_costs_rows_where_short_chunks_abound() -> None:
    lengths = np.repeat([1000, 5], [100, 20_000])
    limit = enough_sequences(lengths, 1000)
    assert pack(lengths, 1000, limit).num_rows <= 1.0025 * pack(lengths, 1000, UNLIMITED).num_rows


def test_a_chunk_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the capacity of 8"):
        pack(np.array([9]), 8, 4)


def test_nothing_packs_into_no_rows() -> None:
    assert pack(np.empty(0, np.int64), 8, 4).num_rows == 0
