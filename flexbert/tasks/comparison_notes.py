"""What a reader of a comparison has to know: who beats no floor, and what does not compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from flexbert.statistics import CONFIDENCE
from flexbert.tasks.comparison import (
    CompareRequest,
    Entry,
    RowDifference,
    TableColumn,
    TableRow,
    shown_score,
)
from flexbert.tasks.differences import difference_of
from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.scoring import higher_is_better

# The chosen fits, by label of the row and of the column.
Cells = dict[str, dict[str, tuple[KeptFit, ...]]]
Entries = Mapping[str, Mapping[str, Entry]]


def below_floor(
    rows: Sequence[TableRow], columns: Sequence[TableColumn], chosen: Cells, entries: Entries
) -> Iterator[str]:
    """A line for every model that is not shown to beat the best floor of a task."""
    for column in columns:
        here = [row for row in rows if column.label in chosen[row.label]]
        goodness = {row.label: _goodness(entries[row.label][column.label], column) for row in here}
        floors = [row.label for row in here if row.is_floor]
        if not floors:
            continue
        floor = max(floors, key=goodness.__getitem__)
        for label in (row.label for row in here if not row.is_floor):
            one, other = (
                shown_score(entries[name][column.label].mean, column) for name in (label, floor)
            )
            scores = f"{column.metric} {one} against {other}"
            if goodness[label] <= goodness[floor]:
                yield f"{column.label}: {label} does not beat {floor} ({scores})"
                continue
            found = difference_of(
                chosen[label][column.label],
                chosen[floor][column.label],
                column.split,
                column.metric,
            )
            if found.verdict == "no difference seen":
                over = f"over {found.count} {found.basis} the interval holds zero"
                yield f"{column.label}: {label} is not shown to beat {floor} ({scores}; {over})"


def notes_on(
    fits: Sequence[KeptFit],
    columns: Sequence[TableColumn],
    entries: Entries,
    request: CompareRequest,
) -> Iterator[str]:
    """A line for everything that makes numbers of the table mean less than they seem to."""
    if any(entry.is_behind for row in entries.values() for entry in row.values()):
        yield "* fewer fits than another model has of the task: its search may be incomplete"
    for label, row in entries.items():
        for name, entry in row.items():
            if entry.budget < 1:
                yield f"{name}: {label} has no fit of full length, only of {entry.budget:.0%} of it"
    if not request.tests:
        tests = any(fit.record.tests for fit in fits)
        yield (
            "validation scores chose points and checkpoints, and are a little high for it"
            + ("; --tests shows the test splits" if tests else "")
        )
    for (suite, task), column in {(c.suite, c.task): c for c in columns}.items():
        own = [fit for fit in fits if (fit.record.suite, fit.record.task) == (suite, task)]
        metrics = {fit.record.metric for fit in own} - {column.metric}
        if metrics:
            others = ", ".join(sorted(metrics))
            yield (
                f"{column.label}: shown and chosen by {column.metric}; within a fit, checkpoints "
                f"and penalties were chosen by {others}"
            )
        changed = sorted(_changed_data(own))
        if changed:
            yield (
                f"{column.label}: fits read different data ({', '.join(changed)}); their scores "
                "do not compare"
            )


def notes_on_differences(differences: Sequence[RowDifference]) -> Iterator[str]:
    """What intervals do not say."""
    without: dict[tuple[str, str], list[str]] = {}
    for each in differences:
        if each.difference.problem is not None:
            without.setdefault((each.row, each.difference.problem), []).append(each.column)
    for (row, problem), columns in without.items():
        yield f"{row}: no interval for {', '.join(columns)}: {problem}"
    found = [each.difference for each in differences if each.difference.basis is not None]
    if any(difference.basis == "examples" for difference in found):
        yield "intervals over examples are of these seeds; others may differ by more"
    if len(found) > 1:
        yield (
            f"each interval holds by itself: of {len(found)} differences between equal models, "
            f"{(1 - CONFIDENCE) * len(found):.1g} would be called better or worse by chance"
        )


def _goodness(entry: Entry, column: TableColumn) -> float:
    if entry.mean is None:
        return -math.inf
    return entry.mean if higher_is_better(column.metric) else -entry.mean


def _changed_data(fits: Sequence[KeptFit]) -> set[str]:
    """The splits that not all fits read as the same examples."""
    first: dict[str, str] = {}
    return {
        split
        for fit in fits
        for split, data in fit.record.data.items()
        if first.setdefault(split, data.fingerprint) != data.fingerprint
    }
