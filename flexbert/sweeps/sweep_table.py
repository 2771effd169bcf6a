"""A sweep's table: means and spreads over seeds, and differences to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flexbert.sweeps.outcomes import RunOutcome
from flexbert.sweeps.sweep_cells import (
    Cells,
    ComparedPoints,
    Incomparable,
    best_first,
    sweep_cells,
)
from flexbert.sweeps.table_notes import incomparable_notes, length_note, table_notes


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """What a sweep has come to so far.

    Attributes:
        cells: by point's label and measure; none of points of which nothing is known.
        best_first: labels of the points that have cells, by the first measure.
        finished: runs that have an outcome.
        total: that are to have one; None of runs that nobody planned together.
        num_seeds: that every point is to have.
        notes: what a reader has to know.
    """

    name: str
    reference: str
    measures: tuple[str, ...]
    cells: Cells
    best_first: tuple[str, ...]
    finished: int
    total: int | None
    num_seeds: int
    notes: tuple[str, ...]


def sweep_table(
    sweep: ComparedPoints,
    outcomes: Sequence[RunOutcome],
    unfinished: Mapping[tuple[str, int], str] | None = None,
    conditions: Sequence[str] = (),
    incomparable: Incomparable | None = None,
) -> SweepTable:
    """The table of what the finished runs have come to.

    Args:
        unfinished: what is known of the other runs, by point's label and seed.
        conditions: what was held equal, and what was not, a line each.
        incomparable: what does not compare with the reference's, and why.
    """
    cells = sweep_cells(sweep, outcomes, incomparable or {})
    return SweepTable(
        name=sweep.name,
        reference=sweep.reference.label,
        measures=sweep.measures,
        cells=cells,
        best_first=tuple(best_first(cells, sweep.measures[0])),
        finished=len(outcomes),
        total=len(sweep.points) * len(sweep.seeds),
        num_seeds=len(sweep.seeds),
        notes=(
            *table_notes(sweep, cells, outcomes, unfinished or {}),
            *incomparable_notes(sweep, incomparable or {}),
            *(conditions or length_note(sweep, outcomes)),
        ),
    )
