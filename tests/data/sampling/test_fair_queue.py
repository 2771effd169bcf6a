from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexbert.data.sampling.fair_queue import Shares, interleave

Weights = list[list[int]]  # of the buckets of each source


def shares_of(weights: Weights) -> Shares:
    sources = np.array([sum(buckets) for buckets in weights], float)
    return Shares(
        sources / sources.sum(),
        np.concatenate([np.array(buckets) / sum(buckets) for buckets in weights]),
        np.cumsum([0] + [len(buckets) for buckets in weights]),
    )


def draw(shares: Shares, streams: list[np.ndarray], count: int, at_a_time: int) -> np.ndarray:
    """The bucket of each of ``count`` chunks, the streams handed over some chunks at a time."""
    num_buckets = len(streams)
    tokens = np.zeros(num_buckets, np.int64)
    taken = np.zeros(num_buckets, np.int64)
    at_hand = np.full(num_buckets, at_a_time)
    chosen = np.empty(count, np.int32)
    filled = 0
    while True:
        ready = [
            stream[begin:end] for stream, begin, end in zip(streams, taken, at_hand, strict=True)
        ]
        sizes = np.array([len(r) for r in ready])
        begins = np.cumsum(sizes) - sizes
        heads = begins.copy()
        filled, empty = interleave(
            shares, tokens, np.concatenate(ready), heads, begins + sizes, chosen, filled
        )
        taken += heads - begins
        if empty < 0:
            return chosen
        at_hand[empty] += at_a_time


mixtures = st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=3), min_size=1, max_size=8)


@pytest.mark.slow
@given(mixtures, st.integers(0, 2**32), st.sampled_from([1, 30, 1000]))
def test_every_share_is_kept_within_one_chunk_after_every_chunk(
    weights: Weights, seed: int, longest: int
) -> None:
    generator = np.random.default_rng(seed)
    num_buckets = sum(len(buckets) for buckets in weights)
    streams = [generator.integers(1, longest + 1, 500) for _ in range(num_buckets)]
    chosen = draw(shares_of(weights), streams, 400, at_a_time=500)
    source_of_bucket = np.repeat(np.arange(len(weights)), [len(buckets) for buckets in weights])
    all_weights = sum(sum(buckets) for buckets in weights)
    drawn = [0] * num_buckets
    taken = [0] * num_buckets
    for bucket in chosen.tolist():
        drawn[bucket] += int(streams[bucket][taken[bucket]])
        taken[bucket] += 1
        total = sum(drawn)
        for source, buckets in enumerate(weights):
            own = [drawn[p] for p in np.flatnonzero(source_of_bucket == source)]
            # Exactly, in fractions: the shares in the code are rounded.
            assert abs(sum(own) - Fraction(sum(buckets), all_weights) * total) <= longest
            for tokens, weight in zip(own, buckets, strict=True):
                assert abs(tokens - Fraction(weight, sum(buckets)) * sum(own)) <= longest


@given(mixtures, st.integers(0, 2**32), st.integers(1, 20))
def test_the_choice_does_not_depend_on_how_many_chunks_are_at_hand(
    weights: Weights, seed: int, at_a_time: int
) -> None:
    generator = np.random.default_rng(seed)
    streams = [generator.integers(1, 50, 300) for buckets in weights for _ in buckets]
    shares = shares_of(weights)
    np.testing.assert_array_equal(
        draw(shares, streams, 200, at_a_time), draw(shares, streams, 200, at_a_time=300)
    )


@pytest.mark.parametrize("begun", [0, 10**12])
def test_shares_are_kept_after_a_trillion_tokens(begun: int) -> None:
    """Where float64 has no digits to spare."""
    shares = shares_of([[1], [2], [4]])
    tokens = np.array([1, 2, 4]) * begun
    lengths = np.random.default_rng(0).integers(1, 1000, 3 * 2000)
    heads = np.arange(3) * 2000
    chosen = np.empty(1000, np.int32)
    assert interleave(shares, tokens, lengths, heads, heads + 2000, chosen, 0) == (1000, -1)
    total = int(tokens.sum())
    for bucket, weight in enumerate((1, 2, 4)):
        assert abs(int(tokens[bucket]) - Fraction(weight, 7) * total) <= 1000
