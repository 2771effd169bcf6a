"""Which of several fits is the best one, by one rule wherever one is chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from flexbert.tasks.results import FitRecord
from flexbert.tasks.scoring import goodness


def is_better(metric: str, new: float, old: float) -> bool:
    """Whether a value of a metric is better than another; one that is no number never is."""
    return goodness(metric, new) > goodness(metric, old)


def best_of(records: Sequence[FitRecord]) -> FitRecord:
    """The best of some fits of one task; of equal ones the first."""
    best = records[0]
    for record in records[1:]:
        if is_better(record.metric, record.value, best.value):
            best = record
    return best


def best_mean(records: Sequence[FitRecord]) -> list[FitRecord]:
    """Of fits of several points of a grid those, one a seed, of the point with the best mean.

    Fits of a share of the updates do not count, and of equal points the first is taken.
    """
    points: dict[str, list[FitRecord]] = {}
    for record in records:
        if record.budget == 1:
            points.setdefault(json.dumps(record.point, sort_keys=True), []).append(record)
    best, best_value = records[:0], math.nan
    for fits in points.values():
        value = sum(fit.value for fit in fits) / len(fits)
        if not best or is_better(fits[0].metric, value, best_value):
            best, best_value = fits, value
    return list(best)
