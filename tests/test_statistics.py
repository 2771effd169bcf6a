"""Intervals and sample sizes, against scipy and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from flexbert.statistics import bootstrap_interval, mean_interval, needed_seeds, sample_deviation

VALUES = [0.71, 0.74, 0.69, 0.73, 0.75]
OTHERS = [0.70, 0.70, 0.68, 0.74, 0.71]


def test_the_spread_is_that_of_a_sample() -> None:
    assert sample_deviation(VALUES) == pytest.approx(scipy.stats.tstd(VALUES))
    assert sample_deviation([0.5]) is None


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_differences_is_that_of_the_paired_t_test(
    count: int, confidence: float
) -> None:
    values, others = VALUES[:count], OTHERS[:count]
    expected = scipy.stats.ttest_rel(values, others).confidence_interval(confidence)
    differences = [a - b for a, b in zip(values, others, strict=True)]
    found = mean_interval(differences, confidence)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.estimate == pytest.approx(np.mean(values) - np.mean(others))


def test_it_holds_zero_exactly_where_the_test_sees_nothing() -> None:
    numbers = np.random.default_rng(0)
    seen = 0
    for _ in range(200):
        differences = numbers.normal(1, 1, 4)
        found = mean_interval(differences.tolist())
        assert found is not None
        p_value = scipy.stats.ttest_1samp(differences, 0).pvalue
        assert found.holds_zero == (p_value > 0.05)
        seen += not found.holds_zero
    assert 20 < seen < 180


def test_one_value_and_what_is_not_finite_have_no_interval() -> None:
    assert mean_interval([0.5]) is None
    assert mean_interval([0.5, math.nan, 0.4]) is None
    assert bootstrap_interval(lambda examples: math.nan, 10) is None
    assert bootstrap_interval(lambda examples: 1.0, 1) is None


def test_the_bootstrap_is_scipys_to_the_noise_of_resampling() -> None:
    numbers = np.random.default_rng(1)
    one = (numbers.random(400) < 0.7).astype(float)
    other = np.where(numbers.random(400) < 0.8, one, 1 - one)
    found = bootstrap_interval(lambda e: one[e].mean() - other[e].mean(), 400, resamples=4000)
    expected = scipy.stats.bootstrap(
        (one, other),
        lambda x, y: x.mean() - y.mean(),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        rng=2,
    ).confidence_interval
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)
    assert found.high - found.low > 0.05
    assert found.estimate == one.mean() - other.mean()


def test_the_bootstrap_gives_the_same_each_time() -> None:
    values = np.random.default_rng(3).random(50)
    first, second = (bootstrap_interval(lambda e: float(values[e].mean()), 50) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("effect", "expected"),
    # G*Power 3.1, paired t test, two tails, alpha 0.05, power 0.8.
    [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (2.0, 5)],
)
def test_needed_seeds_are_those_of_published_tables(effect: float, expected: int) -> None:
    assert needed_seeds(effect, 1.0) == expected
    assert needed_seeds(-effect / 100, 0.01) == expected


def test_needed_seeds_find_the_difference_as_often_as_promised() -> None:
    count = needed_seeds(1.5, 1.0)
    assert count is not None
    draws = np.random.default_rng(4).normal(1.5, 1.0, (20_000, count))
    rate = (scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    fewer = (scipy.stats.ttest_1samp(draws[:, 1:], 0, axis=1).pvalue < 0.05).mean()
    assert rate > 0.79
    assert fewer < 0.81


def test_needed_seeds_where_there_is_nothing_to_find_and_where_two_are_enough() -> None:
    assert needed_seeds(0.0, 1.0) is None
    assert needed_seeds(0.0, 0.0) is None
    assert needed_seeds(1e-6, 1.0) is None
    assert needed_seeds(0.1, 0.0) == 2
    assert needed_seeds(1e6, 1.0) == 2
