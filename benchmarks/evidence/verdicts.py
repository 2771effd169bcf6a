"""Whether a difference is what a claim expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from benchmarks.evidence.claims import Comparison
from flexbert.statistics import ConfidenceInterval, mean_interval

Judgement = Literal["agrees", "disagrees", "not decided"]

# Values by seed.
BySeed = dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A comparison, and what its runs say.

    Attributes:
        point, reference: means over the seeds that both have.
        estimate, low, high: of the difference, with its 95 percent t interval by seed.
        by_seed: values of the point and of the reference.
    """

    comparison: Comparison
    point: float
    reference: float
    estimate: float
    low: float
    high: float
    by_seed: Mapping[int, tuple[float, float]]
    judgement: Judgement

    @property
    def seeds(self) -> int:
        return len(self.by_seed)


def judged(comparison: Comparison, point: BySeed, reference: BySeed) -> Judged:
    """Hold a comparison against values by seed.

    Raises:
        ValueError: if fewer than two seeds have both.
    """
    seeds = [seed for seed in point if seed in reference]
    interval = mean_interval([point[seed] - reference[seed] for seed in seeds])
    if interval is None:
        raise ValueError(f"{comparison}: no interval of {len(seeds)} seeds")
    return Judged(
        comparison=comparison,
        point=fmean([point[seed] for seed in seeds]),
        reference=fmean([reference[seed] for seed in seeds]),
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        by_seed={seed: (point[seed], reference[seed]) for seed in seeds},
        judgement=_judgement(comparison, fmean([reference[seed] for seed in seeds]), interval),
    )


def _judgement(comparison: Comparison, reference: float, interval: ConfidenceInterval) -> Judgement:
    """From an interval: a claim is decided where all of it lies on one side of what is claimed."""
    least, most = comparison.bounds(reference)
    if least < interval.low and interval.high < most:
        return "agrees"
    outside = interval.low > most or interval.high < least
    return "disagrees" if outside else "not decided"
