"""A comparison as tables of text, which every format is made of."""

from __future__ import annotations

from collections.abc import Sequence

from flexbert.tasks.comparison import MEAN, Comparison, Entry, TableColumn, shown_score
from flexbert.text_tables import PLUS_MINUS, TextTable

_NONE = "-"


def score_table(found: Comparison) -> TextTable:
    """Models over tasks, with their mean where there is one; floors below."""
    has_mean = bool(found.means)
    names = [column.label for column in found.columns] + [MEAN] * has_mean
    metrics = [column.metric for column in found.columns] + [""] * has_mean
    groups = []
    for is_floor in (False, True):
        group = []
        for row in (row for row in found.rows if row.is_floor == is_floor):
            entries = found.entries[row.label]
            cells = [_entry(entries.get(column.label), column) for column in found.columns]
            mean = found.means.get(row.label)
            if has_mean and mean is None:
                cells.append(_NONE)
            elif mean is not None:
                cells.append(_with_spread(f"{100 * mean.mean:.1f}", mean.spread, 100))
            group.append((row.label, *cells))
        groups.append(tuple(group))
    what = "the best fit" if found.best else "mean over seeds of the best point"
    return TextTable(
        title=f"{', '.join(found.suites)}: {what}"
        + ("" if found.best else f", {PLUS_MINUS} standard deviation")
        + _in_percent(found.columns),
        header=(("", *names), ("", *metrics)),
        groups=tuple(filter(None, groups)),
    )


def difference_table(found: Comparison) -> TextTable | None:
    """Every other model less the reference; None where there is no other."""
    columns = {column.label: column for column in found.columns}
    # Means are of percents.
    percent = next(iter(columns.values()))
    rows: dict[str, list[tuple[str, ...]]] = {}
    for each in found.differences:
        column, one = columns.get(each.column, percent), each.difference
        interval = (
            f"{shown_score(one.low, column, 2)} to {shown_score(one.high, column, 2)}"
            if one.basis
            else _NONE
        )
        needs = "" if one.needed is None else f" (needs {one.needed:,} seeds)"
        rows.setdefault(each.row, []).append(
            (
                each.row,
                each.column,
                _NONE if one.estimate is None else _signed(shown_score(one.estimate, column, 2)),
                interval,
                f"{one.count:,} {one.basis}" if one.basis else _NONE,
                f"{one.verdict}{needs}",
            )
        )
    if not rows:
        return None
    return TextTable(
        title=f"differences to {found.reference}, paired",
        header=(("", "", "difference", "95% interval", "over", ""),),
        groups=tuple(map(tuple, rows.values())),
        num_labels=2,
        num_words=1,
    )


def point_table(found: Comparison) -> TextTable:
    """What was chosen for every model and task, and of how many fits."""
    groups = []
    for row in (row for row in found.rows if not row.is_floor):
        entries = found.entries[row.label]
        groups.append(
            tuple(
                (
                    row.label,
                    column.label,
                    f"{entry.num_fits:,}{'*' if entry.is_behind else ''}",
                    f"{len(entry.seeds):,}",
                    entry.point or "the only one",
                )
                for column in found.columns
                if (entry := entries.get(column.label)) is not None
            )
        )
    return TextTable(
        title="what validation chose",
        header=(("", "", "fits", "seeds", "point"),),
        groups=tuple(groups),
        num_labels=2,
        num_words=1,
    )


def _entry(entry: Entry | None, column: TableColumn) -> str:
    if entry is None:
        return _NONE
    shown = _with_spread(shown_score(entry.mean, column), entry.spread, column.scale)
    return f"{shown}*" if entry.is_behind else shown


def _with_spread(shown: str, spread: float | None, scale: float) -> str:
    digits = 1 if scale == 100 else 4
    return shown if spread is None else f"{shown} {PLUS_MINUS} {spread * scale:.{digits}f}"


def _in_percent(columns: Sequence[TableColumn]) -> str:
    errors = [column.metric for column in columns if column.scale != 100]
    return ", in percent" if not errors else f", in percent but for {', '.join(set(errors))}"


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"
