"""Intervals and sample sizes, against scipy and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from flexbert.statistics import (
    bootstrap_interval,
    holm_p_values,
    mean_interval,
    mean_p_value,
    needed_seeds,
    sample_deviation,
)

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


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_p_value_of_differences_is_that_of_the_paired_t_test(count: int) -> None:
    values, others = VALUES[:count], OTHERS[:count]
    differences = [a - b for a, b in zip(values, others, strict=True)]
    expected = scipy.stats.ttest_rel(values, others).pvalue
    assert mean_p_value(differences) == pytest.approx(expected)


def test_a_p_value_is_below_the_level_exactly_where_the_interval_leaves_out_zero() -> None:
    numbers = np.random.default_rng(1)
    seen = 0
    for _ in range(200):
        differences = numbers.normal(1, 1, 4).tolist()
        interval, p = mean_interval(differences), mean_p_value(differences)
        assert interval is not None
        assert p is not None
        assert (p < 0.05) == (not interval.holds_zero)
        seen += p < 0.05
    assert 20 < seen < 180
    assert mean_p_value([0.5]) is None
    assert mean_p_value([0.5, math.nan]) is None
    assert mean_p_value([0.25, 0.25]) == 0
    assert mean_p_value([0.0, 0.0]) == 1


def rejected_step_by_step(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as he states it: the smallest against level / n, the next / (n - 1), ..."""
    rejected: set[int] = set()
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected.add(int(index))
    return rejected


def test_holm_rejects_what_his_procedure_rejects_step_by_step() -> None:
    numbers = np.random.default_rng(2)
    sizes = set()
    for _ in range(300):
        p_values = (numbers.uniform(size=6) ** 4).tolist()
        adjusted = holm_p_values(p_values)
        expected = rejected_step_by_step(p_values, 0.05)
        assert {index for index, p in enumerate(adjusted) if p <= 0.05} == expected
        sizes.add(len(expected))
    assert len(sizes) > 4
    assert holm_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_p_values([0.9, 0.6]) == [1.0, 1.0]
    assert holm_p_values([]) == []
