"""Designs of a search: which fits it makes, as a function of those that are finished.

A design is asked again whenever a fit has finished, by every process that shares the search. What
it wants depends on nothing else, so all of them agree.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from flexbert.tasks.choosing import is_better


class FitChoice(NamedTuple):
    """A fit of a task: the number of its point in the grid, its seed, its share of the updates."""

    point: int
    seed: int
    budget: float = 1.0


class Rung(NamedTuple):
    """So many fits of a share of the updates each."""

    fits: int
    budget: float


@dataclass(frozen=True)
class Space:
    """What a task's search chooses from.

    Args:
        points: of the grid.
        metric: that fits are chosen by.
    """

    points: int
    seeds: Sequence[int]
    metric: str

    def ranked(
        self, choices: Sequence[FitChoice], values: Mapping[FitChoice, float]
    ) -> list[FitChoice]:
        """Best first; of equal ones the first of the grid."""
        left = sorted(choices)
        found = []
        while left:
            best = left[0]
            for choice in left[1:]:
                if is_better(self.metric, values[choice], values[best]):
                    best = choice
            left.remove(best)
            found.append(best)
        return found


class Design(ABC):
    """A design of a search.

    Attributes:
        summary: what it does, in a line.
    """

    summary: ClassVar[str]

    @abstractmethod
    def wanted(self, space: Space, values: Mapping[FitChoice, float]) -> list[FitChoice]:
        """All fits that are known to be needed, given the metric of those that are finished.

        The search is over when all of them are finished.
        """

    @abstractmethod
    def rungs(self, space: Space) -> list[Rung]:
        """How many fits of which share it comes to in all."""


class FullGrid(Design):
    """Every point of the grid with every seed."""

    summary = "every point of the grid with every seed"

    def wanted(self, space: Space, values: Mapping[FitChoice, float]) -> list[FitChoice]:
        return [FitChoice(point, seed) for point in range(space.points) for seed in space.seeds]

    def rungs(self, space: Space) -> list[Rung]:
        return [Rung(space.points * len(space.seeds), 1.0)]


class GridOfOneSeed(Design):
    """Every point of the grid with the first seed, the best one with the others."""

    summary = "the grid with the first seed, its best point with the others"

    def wanted(self, space: Space, values: Mapping[FitChoice, float]) -> list[FitChoice]:
        first = [FitChoice(point, space.seeds[0]) for point in range(space.points)]
        return first + _with_other_seeds(space, first, values)

    def rungs(self, space: Space) -> list[Rung]:
        return [Rung(space.points + len(space.seeds) - 1, 1.0)]


class SuccessiveHalving(Design):
    """Successive halving (Jamieson and Talwalkar 2016), by the validation rows.

    All points of the grid with the first seed and a ninth of their updates; the best third of them
    with a third; the best third of those with all. Then the best point with the other seeds.
    """

    summary = (
        "a ninth of the updates, the best third with a third, the best third of those with all"
    )
    keep = 3
    budgets = (1 / 9, 1 / 3, 1.0)

    def wanted(self, space: Space, values: Mapping[FitChoice, float]) -> list[FitChoice]:
        points = list(range(space.points))
        wanted: list[FitChoice] = []
        rung: list[FitChoice] = []
        for budget in self.budgets:
            rung = [FitChoice(point, space.seeds[0], budget) for point in points]
            wanted += rung
            if not all(choice in values for choice in rung):
                return wanted
            best = space.ranked(rung, values)[: math.ceil(len(rung) / self.keep)]
            points = sorted(choice.point for choice in best)
        return wanted + _with_other_seeds(space, rung, values)

    def rungs(self, space: Space) -> list[Rung]:
        rungs, count = [], space.points
        for budget in self.budgets:
            rungs.append(Rung(count, budget))
            count = math.ceil(count / self.keep)
        return [*rungs, Rung(len(space.seeds) - 1, 1.0)]


def _with_other_seeds(
    space: Space, first: Sequence[FitChoice], values: Mapping[FitChoice, float]
) -> list[FitChoice]:
    """The best of the fits with the first seed, with the others; nothing before all are done."""
    if not all(choice in values for choice in first):
        return []
    best = space.ranked(first, values)[0]
    return [FitChoice(best.point, seed) for seed in space.seeds[1:]]


DESIGNS: dict[str, Design] = {
    "full": FullGrid(),
    "one-seed": GridOfOneSeed(),
    "halving": SuccessiveHalving(),
}
