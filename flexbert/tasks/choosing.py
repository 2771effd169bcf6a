"""Which of several fits is the best one, by one rule wherever one is chosen."""

from __future__ import annotations

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
