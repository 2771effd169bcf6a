"""Sums over masked tokens against a list of them all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flexbert.evaluation.scores import ScoreSums, bucket_borders


def test_buckets_double() -> None:
    assert bucket_borders(300).tolist() == [0, 32, 64, 128, 256, 300]
    assert bucket_borders(64).tolist() == [0, 32, 64]
    assert bucket_borders(7).tolist() == [0, 7]


def test_sums_are_those_of_all_tokens_and_the_error_is_that_of_a_ratio() -> None:
    random = np.random.default_rng(0)
    sums, added = ScoreSums(200), ScoreSums(200)
    losses, hits, positions, sequences = [], [], [], []
    for call in range(4):
        counts = random.integers(1, 30, 8)
        own = np.repeat(np.arange(8), counts)
        part = (
            random.random(len(own)).astype(np.float32) * (1 + own),
            random.random(len(own)) < 0.3,
            random.integers(0, 200, len(own)),
            own,
        )
        (sums if call % 2 else added).add(*part)
        for everything, some in zip((losses, hits, positions), part, strict=False):
            everything.append(some)
        sequences.append(own + 8 * call)
    sums += added
    loss, hit, position, sequence = map(np.concatenate, (losses, hits, positions, sequences))
    score = sums.score()
    assert score.masked_tokens == len(loss)
    assert score.loss == pytest.approx(loss.mean(dtype=np.float64), rel=1e-12)
    assert score.accuracy == hit.mean()
    assert score.perplexity == pytest.approx(math.exp(loss.mean(dtype=np.float64)))
    # Cochran: s^2 = sum (y - R x)^2 / (n - 1); the variance of the ratio is s^2 / (n mean(x)^2).
    n = 32
    total, count = np.bincount(sequence, loss), np.bincount(sequence)
    residuals = total - loss.mean(dtype=np.float64) * count
    expected = math.sqrt((residuals**2).sum() / (n - 1) / n) / count.mean()
    assert sums.sequences == n
    assert score.standard_error == pytest.approx(expected)
    for each in sums.by_position():
        inside = (position >= each.begin) & (position < each.end)
        assert each.masked_tokens == inside.sum()
        assert each.loss == pytest.approx(loss[inside].mean(dtype=np.float64))
        assert each.accuracy == hit[inside].mean()


def test_nothing_masked_is_no_division() -> None:
    sums = ScoreSums(64)
    assert sums.score().loss is None
    assert sums.by_position() == ()
    sums.add(np.array([2.0]), np.array([True]), np.array([3]), np.array([0]))
    assert sums.score().standard_error is None
