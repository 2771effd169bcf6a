"""Whether a difference is what a claim expects."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from benchmarks.evidence.claims import Comparison
from flexbert.statistics import mean_interval

Judgement = Literal["agrees", "disagrees", "not decided"]

# Values by seed.
BySeed = dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A comparison, and what its runs say.

    Attributes:
        point, reference: means over the seeds that both have.
        estimate, low, high: of the difference, with its 95 percent t interval by seed.
    """

    comparison: Comparison
    point: float
    reference: float
    estimate: float
    low: float
    high: float
    seeds: int
    judgement: Judgement


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
        seeds=len(seeds),
        judgement=_judgement(comparison, interval.low, interval.high),
    )


def _judgement(comparison: Comparison, low: float, high: float) -> Judgement:
    """From an interval: a claim is decided where all of it lies on one side of what is claimed."""
    least, most = comparison.bounds
    if least < low and high < most:
        return "agrees"
    return "disagrees" if low > most or high < least else "not decided"


def in_all(judgements: list[Judgement]) -> str:
    """Of a claim in several comparisons: what all say, or how many say what."""
    kinds = dict.fromkeys(judgements)
    if len(kinds) == 1:
        return judgements[0]
    return ", ".join(f"{kind} in {judgements.count(kind)}" for kind in kinds)
