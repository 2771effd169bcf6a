"""The cells of a sweep's table: a measure of a point over its seeds, against the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from flexbert.statistics import CONFIDENCE, holm_p_values, mean_p_value, sample_deviation
from flexbert.sweeps.outcomes import RunOutcome, more_is_better
from flexbert.sweeps.points import SweepPoint
from flexbert.tasks.differences import Difference, Verdict, difference_by_seed

PointVerdict = Verdict | Literal["better by itself", "worse by itself", "does not compare"]
INCOMPARABLE: PointVerdict = "does not compare"
# Why a number does not compare with the reference's, by point's label and measure.
Incomparable = Mapping[tuple[str, str], str]


class ComparedPoints(Protocol):
    """Points with the seeds that each is to be trained with: a sweep, or runs in groups."""

    @property
    def name(self) -> str: ...
    @property
    def points(self) -> tuple[SweepPoint, ...]: ...
    @property
    def seeds(self) -> tuple[int, ...]: ...
    @property
    def measures(self) -> tuple[str, ...]: ...
    @property
    def reference(self) -> SweepPoint: ...
    @property
    def tolerance(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """A measure of a point over its seeds.

    Attributes:
        mean: None where no run has it as a finite number.
        spread: the standard deviation over seeds; None for one seed.
        seeds: of the runs that have it as a finite number.
        diverged: seeds of finished runs that have it as no finite number.
        difference: to the reference, paired by seed, for itself; None for the reference.
        p: of the paired t test; None where there is no interval.
        holm: the same by Holm's method, over all differences of this measure.
        verdict: what may be said of the difference, given all others of this measure. ``by itself``
            is one whose interval leaves out zero while Holm's method does not reject it. None is
            called better, or worse, because runs that diverged are left out of a mean. None is
            called either where its number is not over the same as the reference's.
    """

    mean: float | None
    spread: float | None
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    difference: Difference | None = None
    p: float | None = None
    holm: float | None = None
    verdict: PointVerdict | None = None


# By point's label and measure.
Cells = dict[str, dict[str, SweepCell]]


def sweep_cells(
    sweep: ComparedPoints, outcomes: Sequence[RunOutcome], incomparable: Incomparable
) -> Cells:
    """The cells of all points of which at least one run is finished, in the points' order."""
    of_point = {
        point.label: [each for each in outcomes if each.run.point.label == point.label]
        for point in sweep.points
    }
    reference = sweep.reference.label
    cells: Cells = {label: {} for label, own in of_point.items() if own}
    for measure in sweep.measures:
        column = {
            label: _incomparable(_cell(of_point[label], None, measure))
            if (label, measure) in incomparable
            else _cell(
                of_point[label], None if label == reference else of_point[reference], measure
            )
            for label in cells
        }
        for label, cell in _judged(column, reference).items():
            cells[label][measure] = cell
    return cells


def best_first(cells: Mapping[str, Mapping[str, SweepCell]], measure: str) -> list[str]:
    """Labels by their means, those that have none, or do not compare, last."""
    sign = -1 if more_is_better(measure) else 1

    def place(label: str) -> float:
        cell = cells[label][measure]
        if cell.mean is None or cell.verdict == INCOMPARABLE:
            return math.inf
        return sign * cell.mean

    return sorted(cells, key=place)


def _cell(own: Sequence[RunOutcome], base: Sequence[RunOutcome] | None, measure: str) -> SweepCell:
    values = _by_seed(own, measure)
    found = list(values.values())
    cell = SweepCell(
        mean=sum(found) / len(found) if found else None,
        spread=sample_deviation(found),
        seeds=tuple(values),
        diverged=tuple(each.run.seed for each in own if each.run.seed not in values),
    )
    if base is None:
        return cell
    others = _by_seed(base, measure)
    paired = [values[seed] - others[seed] for seed in values if seed in others]
    if not paired:
        return replace(
            cell, difference=Difference(estimate=None, count=0, problem="no seed in common")
        )
    difference = difference_by_seed(paired, more_is_better(measure))
    p = None if difference.basis is None else mean_p_value(paired)
    return replace(cell, difference=difference, p=p)


def _incomparable(cell: SweepCell) -> SweepCell:
    nothing = Difference(estimate=None, count=0)
    return replace(cell, difference=nothing, verdict=INCOMPARABLE)


def _judged(column: Mapping[str, SweepCell], reference: str) -> dict[str, SweepCell]:
    """The cells of one measure, each with its verdict among all."""
    tested = {label: cell.p for label, cell in column.items() if cell.p is not None}
    holm = dict(zip(tested, holm_p_values(list(tested.values())), strict=True))
    base = column.get(reference)
    judged = {}
    for label, cell in column.items():
        if cell.difference is None or cell.verdict == INCOMPARABLE:
            judged[label] = cell
            continue
        adjusted = holm.get(label)
        verdict: PointVerdict = cell.difference.verdict
        if verdict in ("better", "worse"):
            # Means leave out what diverged, which flatters them.
            flattered = cell.diverged if verdict == "better" else base and base.diverged
            if flattered:
                verdict = "not known"
            elif adjusted is not None and adjusted > 1 - CONFIDENCE:
                verdict = "better by itself" if verdict == "better" else "worse by itself"
        judged[label] = replace(cell, holm=adjusted, verdict=verdict)
    return judged


def _by_seed(outcomes: Sequence[RunOutcome], measure: str) -> dict[int, float]:
    return {
        each.run.seed: each.values[measure]
        for each in outcomes
        if math.isfinite(each.values[measure])
    }
