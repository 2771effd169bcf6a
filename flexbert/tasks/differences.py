"""The difference of two models on a task, and whether it is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flexbert.errors import UserError
from flexbert.statistics import (
    ConfidenceInterval,
    bootstrap_interval,
    mean_interval,
    needed_seeds,
    sample_deviation,
)
from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.scoring import Scorer, higher_is_better

# Below this the t interval is so wide that the examples say more.
FEWEST_SEEDS = 3
# Scores are means of at most millions of examples: what is smaller is how numbers are rounded.
_NEXT_TO_NOTHING = 1e-12
Basis = Literal["seeds", "examples"]
Verdict = Literal["better", "worse", "no difference seen", "not known"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One model's score less another's.

    Attributes:
        estimate: the mean over the seeds that both have; None where it is no finite number.
        low, high: of the 95 percent interval; None where there is none.
        basis: what the interval is over; None without one.
        count: seeds or examples that it is over; seeds where there is none.
        needed: seeds that would show a difference as large as this in four of five experiments;
            None where it is shown, or nothing is known.
        problem: why there is no interval.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    basis: Basis | None = None
    count: int
    verdict: Verdict = "not known"
    needed: int | None = None
    problem: str | None = None


def difference_of(
    fits: Sequence[KeptFit], others: Sequence[KeptFit], split: str, metric: str
) -> Difference:
    """``fits`` less ``others``, paired by seed; by example where there are under three seeds, or
    seeds change nothing, as of probes on a model's own weights.

    A floor has no seeds: it goes with each seed of a model.
    """
    pairs = _pairs(fits, others)
    if not pairs:
        return Difference(estimate=None, count=0, problem="no seed in common")
    values = [one.value(split, metric) - other.value(split, metric) for one, other in pairs]
    if len(pairs) >= FEWEST_SEEDS and not _all_the_same(values):
        return difference_by_seed(values, higher_is_better(metric))
    estimate = _finite(float(np.mean(values)))
    if estimate is None:
        return Difference(estimate=None, count=len(pairs), problem="a score is no finite number")
    try:
        scorers = _paired_scorers(pairs, split, metric)
    except UserError:
        problem = "no predictions of the same examples are kept"
        return Difference(estimate=estimate, count=len(pairs), problem=problem)
    num_examples = pairs[0][0].predicted(split).num_examples
    interval = bootstrap_interval(
        lambda examples: float(
            np.mean([one(examples) - other(examples) for one, other in scorers])
        ),
        num_examples,
    )
    if interval is None:
        problem = f"{num_examples} examples are too few"
        return Difference(estimate=estimate, count=len(pairs), problem=problem)
    return Difference(
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        basis="examples",
        count=num_examples,
        verdict=_verdict(interval, higher_is_better(metric)),
    )


def difference_by_seed(values: Sequence[float], more_is_better: bool) -> Difference:
    """What differences by seed say together, by the paired t interval.

    Nothing under three, or where they are all the same: seeds then change nothing, and how often
    they are repeated says nothing.
    """
    estimate = _finite(float(np.mean(values)))
    interval = mean_interval(values) if len(values) >= FEWEST_SEEDS else None
    if interval is None or estimate is None or _all_the_same(values):
        problem = "seeds change nothing"
        if estimate is None:
            problem = "a score is no finite number"
        elif len(values) < FEWEST_SEEDS:
            problem = "under three seeds"
        return Difference(estimate=estimate, count=len(values), problem=problem)
    deviation = sample_deviation(values) or 0.0
    return Difference(
        estimate=estimate,
        low=interval.low,
        high=interval.high,
        basis="seeds",
        count=len(values),
        verdict=_verdict(interval, more_is_better),
        needed=needed_seeds(estimate, deviation) if interval.holds_zero else None,
    )


def _verdict(interval: ConfidenceInterval, more_is_better: bool) -> Verdict:
    if interval.holds_zero:
        return "no difference seen"
    return "better" if (interval.low > 0) == more_is_better else "worse"


def _pairs(fits: Sequence[KeptFit], others: Sequence[KeptFit]) -> list[tuple[KeptFit, KeptFit]]:
    if all(fit.record.mode == "floor" for fit in others):
        return [(fit, others[0]) for fit in fits]
    if all(fit.record.mode == "floor" for fit in fits):
        return [(fits[0], other) for other in others]
    if len(fits) == len(others) == 1:
        # The best fit of each, whose seeds mean nothing.
        return [(fits[0], others[0])]
    by_seed = {other.record.seed: other for other in others}
    return [(fit, by_seed[fit.record.seed]) for fit in fits if fit.record.seed in by_seed]


def _paired_scorers(
    pairs: Sequence[tuple[KeptFit, KeptFit]], split: str, metric: str
) -> list[tuple[Scorer, Scorer]]:
    """Raises: UserError if predictions are not kept, or are of other examples."""
    labels = pairs[0][0].predicted(split).labels
    for fit in (fit for pair in pairs for fit in pair):
        if not np.array_equal(fit.predicted(split).labels, labels):
            raise UserError(f"fit {fit.record.fit}: its examples of {split} are others")
    return [(one.scorer(split, metric), other.scorer(split, metric)) for one, other in pairs]


def _all_the_same(values: Sequence[float]) -> bool:
    return max(values) - min(values) < _NEXT_TO_NOTHING


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
