"""A sweep's table: means and spreads over seeds, and differences to the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flexbert.statistics import sample_deviation
from flexbert.sweeps.outcomes import RunOutcome, more_is_better
from flexbert.sweeps.sweep_file import Sweep
from flexbert.tasks.differences import Difference, difference_by_seed


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """A measure of a point over its seeds.

    Attributes:
        seeds: of the runs that have it as a finite number.
        difference: to the reference, paired by seed; None for the reference itself.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """What a sweep has come to so far.

    Attributes:
        cells: by point's label and measure; none of points of which nothing is known.
        finished: runs that have an outcome, of ``total``.
        notes: what a reader has to know.
    """

    name: str
    reference: str
    measures: tuple[str, ...]
    cells: dict[str, dict[str, SweepCell]]
    finished: int
    total: int
    notes: tuple[str, ...]


def sweep_table(
    sweep: Sweep, outcomes: Sequence[RunOutcome], notes: Sequence[str] = ()
) -> SweepTable:
    """The table of what the finished runs have come to.

    Args:
        notes: what a reader has to know, a line each.
    """
    of_point = {
        point.label: [each for each in outcomes if each.run.point.label == point.label]
        for point in sweep.points
    }
    base = of_point[sweep.reference.label]
    cells = {
        label: {
            measure: _cell(own, None if label == sweep.reference.label else base, measure)
            for measure in sweep.measures
        }
        for label, own in of_point.items()
        if own
    }
    return SweepTable(
        name=sweep.name,
        reference=sweep.reference.label,
        measures=sweep.measures,
        cells=cells,
        finished=len(outcomes),
        total=len(sweep.points) * len(sweep.seeds),
        notes=tuple(notes),
    )


def sweep_table_text(table: SweepTable) -> str:
    """The table as lines for people."""
    width = max(len("point"), *(len(label) for label in table.cells)) if table.cells else 5
    header = "".join(f"{measure:>24}" for measure in table.measures)
    lines = [
        f"{table.name}: mean over seeds +- standard deviation; {table.finished} of {table.total} "
        "runs are finished",
        "",
        f"{'point':<{width}}{header}{'seeds':>7}",
    ]
    for label, row in table.cells.items():
        values = "".join(f"{_score(row[measure]):>24}" for measure in table.measures)
        count = len(row[table.measures[0]].seeds)
        lines.append(f"{label:<{width}}{values}{count:>7}")
    differences = [
        (label, measure, cell.difference)
        for label, row in table.cells.items()
        for measure, cell in row.items()
        if cell.difference is not None
    ]
    if differences:
        lines += ["", f"differences to {table.reference}, paired by seed", ""]
        lines += [_difference_line(*each, width) for each in differences]
    return "\n".join([*lines, *(("", *table.notes) if table.notes else ())])


def _cell(own: Sequence[RunOutcome], base: Sequence[RunOutcome] | None, measure: str) -> SweepCell:
    values = _by_seed(own, measure)
    others = None if base is None else _by_seed(base, measure)
    both = [seed for seed in values if others is not None and seed in others]
    if others is None:
        difference = None
    elif both:
        paired = [values[seed] - others[seed] for seed in both]
        difference = difference_by_seed(paired, more_is_better(measure))
    else:
        difference = Difference(estimate=None, count=0, problem="no seed in common")
    found = list(values.values())
    return SweepCell(
        mean=sum(found) / len(found) if found else math.nan,
        spread=sample_deviation(found),
        seeds=tuple(values),
        difference=difference,
    )


def _by_seed(outcomes: Sequence[RunOutcome], measure: str) -> dict[int, float]:
    return {
        each.run.seed: each.values[measure]
        for each in outcomes
        if math.isfinite(each.values[measure])
    }


def _score(cell: SweepCell) -> str:
    spread = "" if cell.spread is None else f" +- {cell.spread:.4g}"
    return f"{cell.mean:.5g}{spread}"


def _difference_line(label: str, measure: str, found: Difference, width: int) -> str:
    start = f"{label:<{width}}{measure:>24}"
    if found.estimate is None or found.low is None or found.high is None:
        estimate = "-" if found.estimate is None else f"{found.estimate:+.4g}"
        return f"{start}{estimate:>12}  no interval: {found.problem}"
    needed = f"; {found.needed:,} seeds would show it" if found.needed is not None else ""
    interval = f"{found.low:+.4g} to {found.high:+.4g}"
    return f"{start}{found.estimate:>+12.4g}{interval:>26}  {found.verdict}{needed}"
