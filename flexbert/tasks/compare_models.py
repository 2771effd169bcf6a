"""From finished fits to a comparison of their models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flexbert.errors import UserError, did_you_mean
from flexbert.statistics import sample_deviation
from flexbert.tasks.best_points import best_fit, best_point
from flexbert.tasks.comparison import (
    MEAN,
    CompareRequest,
    Comparison,
    Entry,
    RowDifference,
    RowMean,
    TableColumn,
    TableRow,
)
from flexbert.tasks.comparison_notes import Cells, below_floor, notes_on, notes_on_differences
from flexbert.tasks.comparison_rows import ComparisonRows, comparison_rows, new_label
from flexbert.tasks.differences import Difference, difference_by_seed, difference_of
from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.results import VALIDATION, Mode
from flexbert.tasks.scoring import higher_is_better, require_metrics


def compare_fits(fits: Sequence[KeptFit], request: CompareRequest) -> Comparison:
    """Compare all models that the fits are of, over all of their tasks.

    Raises:
        UserError: for an unknown reference, task or metric, or where a metric cannot be had.
    """
    rows = comparison_rows(fits)
    # A fine-tuned model before a probe, and a floor last.
    by_mode = sorted(rows.rows, key=lambda row: (row.is_floor, row.mode != "fine_tune"))
    reference = request.reference or by_mode[0].label
    if reference not in (labels := [row.label for row in rows.rows]):
        raise UserError(f"--reference {reference}: no such row; {did_you_mean(reference, labels)}")
    columns = _columns(fits, request)
    if not columns:
        raise UserError("--tests: no fit has a test split")
    entries: dict[str, dict[str, Entry]] = {}
    chosen: Cells = {}
    for column in columns:
        groups = _by_row(fits, rows, column)
        behind = _behind(groups, rows)
        for label, group in groups.items():
            found = (best_fit if request.best else best_point)(group, column.metric)
            here = tuple(fit for fit in found.fits if column.split in fit.splits())
            if here:
                chosen.setdefault(label, {})[column.label] = here
                entries.setdefault(label, {})[column.label] = _entry(
                    here, column, found.num_fits, is_behind=label in behind
                )
    means = {} if request.best else _means(entries, columns)
    ordered = sorted(rows.rows, key=lambda row: row.is_floor)
    present = [row for row in ordered if row.label in entries]
    differences = tuple(_differences(present, columns, chosen, reference, means))
    notes = (*notes_on(fits, columns, entries, request), *notes_on_differences(differences))
    return Comparison(
        suites=tuple(dict.fromkeys(column.suite for column in columns)),
        best=request.best,
        columns=tuple(columns),
        rows=tuple(present),
        entries=entries,
        means=means,
        reference=reference,
        differences=differences,
        below_floor=tuple(below_floor(present, columns, chosen, entries)),
        notes=notes,
    )


def _columns(fits: Sequence[KeptFit], request: CompareRequest) -> list[TableColumn]:
    tasks = list(dict.fromkeys((fit.record.suite, fit.record.task) for fit in fits))
    count = Counter(task for _, task in tasks)
    names = {
        (suite, task): task if count[task] == 1 else f"{suite}/{task}" for suite, task in tasks
    }
    wanted = dict(request.metrics or {})
    for name in wanted:
        if name not in names.values():
            raise UserError(f"--metric {name}: no such task; {did_you_mean(name, names.values())}")
    columns = []
    labels: set[str] = set()
    for (suite, task), name in names.items():
        own = [fit for fit in fits if (fit.record.suite, fit.record.task) == (suite, task)]
        metric = wanted.get(name, own[-1].record.metric)
        if name in wanted:
            require_metrics(own[0].kind, [metric])
        tests = dict.fromkeys(split for fit in own for split in fit.record.tests)
        for split in tests if request.tests else (VALIDATION,):
            columns.append(
                TableColumn(
                    label=new_label(f"{name}:{split}" if request.tests else name, labels),
                    suite=suite,
                    task=task,
                    split=split,
                    metric=metric,
                )
            )
    return columns


def _by_row(
    fits: Sequence[KeptFit], rows: ComparisonRows, column: TableColumn
) -> dict[str, list[KeptFit]]:
    groups: dict[str, list[KeptFit]] = {}
    for fit in fits:
        if (fit.record.suite, fit.record.task) == (column.suite, column.task):
            groups.setdefault(rows.row_of(fit).label, []).append(fit)
    return groups


def _behind(groups: Mapping[str, Sequence[KeptFit]], rows: ComparisonRows) -> set[str]:
    """The rows with fewer fits of a task than another of their mode."""
    modes = {row.label: row.mode for row in rows.rows}
    most: Counter[Mode] = Counter()
    for label, group in groups.items():
        most[modes[label]] = max(most[modes[label]], len(group))
    return {label for label, group in groups.items() if len(group) < most[modes[label]]}


def _entry(
    fits: Sequence[KeptFit], column: TableColumn, num_fits: int, *, is_behind: bool
) -> Entry:
    values = [fit.value(column.split, column.metric) for fit in fits]
    point = fits[0].record.point
    deviation = sample_deviation(values)
    return Entry(
        mean=_finite(float(np.mean(values))),
        spread=None if deviation is None else _finite(deviation),
        values=tuple(map(_finite, values)),
        seeds=tuple(fit.record.seed for fit in fits),
        point=", ".join(f"{key} {_short(value)}" for key, value in point.items()),
        num_fits=num_fits,
        budget=fits[0].record.budget,
        fits=tuple(fit.record.fit for fit in fits),
        is_behind=is_behind,
    )


def _means(
    entries: Mapping[str, Mapping[str, Entry]], columns: Sequence[TableColumn]
) -> dict[str, RowMean]:
    if len(columns) < 2 or not all(higher_is_better(column.metric) for column in columns):
        return {}
    means = {}
    for label, row in entries.items():
        own = [row[column.label] for column in columns if column.label in row]
        values = [entry.mean for entry in own if entry.mean is not None]
        if len(values) == len(columns):
            by_seed = _means_by_seed(own)
            means[label] = RowMean(
                mean=float(np.mean(values)),
                spread=sample_deviation(list(by_seed.values())),
                seeds=tuple(by_seed),
            )
    return means


def _means_by_seed(entries: Sequence[Entry]) -> dict[int, float]:
    """The mean over tasks for each seed that all of them have."""
    tables = [
        {
            seed: value
            for seed, value in zip(entry.seeds, entry.values, strict=True)
            if value is not None
        }
        for entry in entries
    ]
    seeds = [seed for seed in tables[0] if all(seed in table for table in tables)]
    return {seed: float(np.mean([table[seed] for table in tables])) for seed in seeds}


def _differences(
    rows: Sequence[TableRow],
    columns: Sequence[TableColumn],
    chosen: Cells,
    reference: str,
    means: Mapping[str, RowMean],
) -> Iterator[RowDifference]:
    for row in rows:
        if row.is_floor or row.label == reference or reference not in chosen:
            continue
        own, other = chosen[row.label], chosen[reference]
        both = [column for column in columns if column.label in own and column.label in other]
        for column in both:
            found = difference_of(
                own[column.label], other[column.label], column.split, column.metric
            )
            yield RowDifference(row=row.label, column=column.label, difference=found)
        if row.label in means and reference in means:
            yield RowDifference(
                row=row.label, column=MEAN, difference=_mean_difference(own, other, both)
            )


def _mean_difference(
    own: Mapping[str, Sequence[KeptFit]],
    other: Mapping[str, Sequence[KeptFit]],
    columns: Sequence[TableColumn],
) -> Difference:
    def by_seed(fits: Sequence[KeptFit], column: TableColumn) -> dict[int, float]:
        return {fit.record.seed: fit.value(column.split, column.metric) for fit in fits}

    tables = [
        (by_seed(own[column.label], column), by_seed(other[column.label], column))
        for column in columns
    ]
    seeds = [
        seed for seed in tables[0][0] if all(seed in one and seed in two for one, two in tables)
    ]
    if not seeds:
        return Difference(estimate=None, count=0, problem="no seed that all tasks have")
    means = [float(np.mean([one[seed] - two[seed] for one, two in tables])) for seed in seeds]
    return difference_by_seed(means, more_is_better=True)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
