"""What few seeds, or many examples, say about a difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
_MOST_SEEDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """An estimate, and the confidence interval around it."""

    estimate: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


def sample_deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of what the values are a sample of; None below two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> ConfidenceInterval | None:
    """Student's t interval of a mean. Of differences by seed, it is that of the paired t test.

    Returns:
        None below two values, or where one is not finite.
    """
    from scipy.stats import t

    deviation = sample_deviation(values)
    if deviation is None or not math.isfinite(deviation):
        return None
    mean, count = float(np.mean(values)), len(values)
    reach = float(t.ppf((1 + confidence) / 2, count - 1)) * deviation / math.sqrt(count)
    return ConfidenceInterval(estimate=mean, low=mean - reach, high=mean + reach)


def mean_p_value(values: Sequence[float]) -> float | None:
    """Student's two-sided p-value for a mean of zero; of differences by seed, the paired t test's.

    It is below ``1 - confidence`` exactly where :func:`mean_interval` leaves out zero.

    Returns:
        None below two values, or where one is not finite.
    """
    from scipy.stats import t

    deviation = sample_deviation(values)
    if deviation is None or not math.isfinite(deviation):
        return None
    mean, count = float(np.mean(values)), len(values)
    if deviation == 0:
        return 0.0 if mean else 1.0
    return float(2 * t.sf(abs(mean) / (deviation / math.sqrt(count)), count - 1))


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, each such that all below a level hold together (Holm 1979).

    However many of the tested differences are none, and however they depend on each other, the
    chance that one of them falls below the level is at most that level.
    """
    count, largest = len(p_values), 0.0
    adjusted = [1.0] * count
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    num_examples: int,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ConfidenceInterval | None:
    """The percentile bootstrap (Efron 1979) over examples, the same for the same seed.

    It is paired where the statistic is a difference of two scores of the same examples.

    Args:
        statistic: of examples by index ``[num_examples]``, one perhaps several times.

    Returns:
        None where the statistic is not finite, or there are fewer than two examples.
    """
    estimate = statistic(np.arange(num_examples))
    if num_examples < 2 or not math.isfinite(estimate):
        return None
    numbers = np.random.default_rng(seed)
    found = [statistic(numbers.integers(num_examples, size=num_examples)) for _ in range(resamples)]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return (
        ConfidenceInterval(estimate=estimate, low=low, high=high)
        if math.isfinite(high - low)
        else None
    )


def needed_seeds(
    difference: float, deviation: float, *, power: float = 0.8, confidence: float = CONFIDENCE
) -> int | None:
    """How many pairs a two-sided paired t test needs to find a difference as often as ``power``.

    Its power is by the noncentral t distribution (Cohen 1988, "Statistical Power Analysis", 2).

    Args:
        deviation: the spread of the differences by seed.

    Returns:
        at least 2; None where the difference is too small for a million.
    """
    if deviation <= 0 and difference:
        return 2
    if not difference or _power(_MOST_SEEDS, difference / deviation, confidence) < power:
        return None
    few, enough = 1, 2
    while _power(enough, difference / deviation, confidence) < power:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        if _power(middle, difference / deviation, confidence) < power:
            few = middle
        else:
            enough = middle
    return enough


def _power(count: int, effect: float, confidence: float) -> float:
    """How often the test of ``count`` pairs finds a difference of ``effect`` deviations."""
    from scipy.stats import nct, t

    limit = t.ppf((1 + confidence) / 2, count - 1)
    shift = abs(effect) * math.sqrt(count)
    # Beyond this scipy's tail is inexact, and the power is 1 to any reader.
    if shift > limit + 10:
        return 1.0
    return float(nct.sf(limit, count - 1, shift) + nct.cdf(-limit, count - 1, shift))
