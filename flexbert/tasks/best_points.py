"""Which of a search's fits stand in a table."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.results import VALIDATION
from flexbert.tasks.scoring import goodness


@dataclass(frozen=True, kw_only=True)
class ChosenFits:
    """
    Attributes:
        fits: of the chosen point, one a seed, by seed; or the one best fit.
        num_fits: that it was chosen from, of all lengths.
        budget: the share of their full length that they were given.
    """

    fits: tuple[KeptFit, ...]
    num_fits: int
    budget: float


def best_point(fits: Sequence[KeptFit], metric: str) -> ChosenFits:
    """The point that is best by its validation mean over seeds.

    Fits of the largest budget alone compete, and of their points those with the most seeds: a mean
    over one seed is high by luck more easily than one over three. Of equals the first is taken.
    """
    full = _longest(fits)
    points: dict[str, dict[int, KeptFit]] = {}
    for fit in full:
        key = json.dumps(fit.record.point, sort_keys=True)
        points.setdefault(key, {})[fit.record.seed] = fit
    most = max(map(len, points.values()))
    best = max(
        (point for point in points.values() if len(point) == most),
        key=lambda point: _mean_goodness(point.values(), metric),
    )
    return _chosen([best[seed] for seed in sorted(best)], fits)


def best_fit(fits: Sequence[KeptFit], metric: str) -> ChosenFits:
    """The fit that is best on validation, of those of the largest budget."""
    best = max(_longest(fits), key=lambda fit: _mean_goodness([fit], metric))
    return _chosen([best], fits)


def _chosen(chosen: Sequence[KeptFit], fits: Sequence[KeptFit]) -> ChosenFits:
    budget = chosen[0].record.budget
    return ChosenFits(fits=tuple(chosen), num_fits=len(fits), budget=budget)


def _longest(fits: Sequence[KeptFit]) -> list[KeptFit]:
    budget = max(fit.record.budget for fit in fits)
    return [fit for fit in fits if fit.record.budget == budget]


def _mean_goodness(fits: Collection[KeptFit], metric: str) -> float:
    """More is better; what is not finite is worse than all."""
    values = [fit.value(VALIDATION, metric) for fit in fits]
    return goodness(metric, sum(values) / len(values))
