"""A sweep's table as text for people, as Markdown and as LaTeX."""

from __future__ import annotations

import math

from flexbert.sweeps.sweep_cells import INCOMPARABLE, SweepCell
from flexbert.sweeps.sweep_table import SweepTable
from flexbert.text_tables import (
    PLUS_MINUS,
    TextTable,
    tables_latex,
    tables_markdown,
    tables_text,
)

_NONE = "-"
_MOST_DECIMALS = 6


def sweep_table_text(table: SweepTable) -> str:
    """What ``flexbert sweep`` prints, in up to 100 columns."""
    return tables_text(_tables(table), table.notes)


def sweep_markdown(table: SweepTable) -> str:
    """The same as Markdown."""
    return tables_markdown(_tables(table), table.notes)


def sweep_latex(table: SweepTable) -> str:
    """The same for LaTeX; it needs ``\\usepackage{booktabs}``."""
    return tables_latex(_tables(table), table.notes)


def _tables(table: SweepTable) -> list[TextTable]:
    differences = (_difference_table(table, measure) for measure in table.measures)
    return [_mean_table(table), *(found for found in differences if found is not None)]


def _mean_table(table: SweepTable) -> TextTable:
    rows = []
    for label, cells in table.cells.items():
        counts = dict.fromkeys(len(cell.seeds) for cell in cells.values())
        seeds = " to ".join(str(count) for count in sorted(counts)[:: max(1, len(counts) - 1)])
        of_all = f" of {table.num_seeds}" if min(counts) < table.num_seeds else ""
        means = (_mean(cells[measure]) for measure in table.measures)
        rows.append((label, *means, f"{seeds}{of_all}"))
    finished = "" if table.total is None else f"{table.finished} of {table.total} runs are finished"
    what = f"{table.name}: mean over seeds {PLUS_MINUS} standard deviation"
    return TextTable(
        title="; ".join(filter(None, (what, finished))),
        header=(("point", *table.measures, "seeds"),),
        groups=(tuple(rows),) if rows else (),
        wraps_labels=True,
    )


def _difference_table(table: SweepTable, measure: str) -> TextTable | None:
    """Every other point less the reference, the best by the first measure first."""
    rows = [
        (label, *_difference(cell))
        for label in table.best_first
        if (cell := table.cells[label][measure]).difference is not None
    ]
    if not rows:
        return None
    p = "p, Holm" if len(rows) > 1 else "p"
    header = ("point", "difference", "95% interval", "seeds", p, "needs", "")
    title = f"{measure}: differences to {table.reference}, paired by seed"
    if all(table.cells[label][measure].p is None for label, *_ in rows):
        # Nothing is known of any but the estimate, from how many seeds, and what does not compare.
        says = any(verdict == INCOMPARABLE for *_, verdict in rows)
        columns = (0, 1, 3, 6) if says else (0, 1, 3)
        header_kept, *kept = (tuple(row[i] for i in columns) for row in (header, *rows))
        return TextTable(
            title=title,
            header=(header_kept,),
            groups=(tuple(kept),),
            num_words=int(says),
            wraps_labels=True,
        )
    return TextTable(
        title=title,
        header=(header,),
        groups=(tuple(rows),),
        num_words=1,
        wraps_labels=True,
    )


def _mean(cell: SweepCell) -> str:
    if cell.mean is None:
        return "nan" if cell.diverged else _NONE
    if cell.spread is None:
        return f"{cell.mean:.5g}"
    return f"{_fixed(cell.mean, cell.spread)} {PLUS_MINUS} {_fixed(cell.spread, cell.spread)}"


def _difference(cell: SweepCell) -> tuple[str, ...]:
    found = cell.difference
    if found is None or found.estimate is None:
        return (*[_NONE] * 5, str(cell.verdict))
    if found.low is None or found.high is None:
        return f"{found.estimate:+.4g}", _NONE, str(found.count), _NONE, _NONE, str(cell.verdict)
    reach = found.high - found.estimate
    estimate, low, high = (
        f"{'' if number < 0 else '+'}{_fixed(number, reach)}"
        for number in (found.estimate, found.low, found.high)
    )
    needs = _NONE if found.needed is None else f"{found.needed:,}"
    p = _NONE if cell.holm is None else f"{cell.holm:.3f}" if cell.holm >= 1e-3 else "<0.001"
    return estimate, f"{low} to {high}", str(found.count), p, needs, str(cell.verdict)


def _fixed(value: float, uncertainty: float) -> str:
    """A number with as many decimals as show two digits of what it is uncertain by."""
    if uncertainty <= 0 or not math.isfinite(uncertainty):
        return f"{value:.5g}"
    decimals = min(max(1 - math.floor(math.log10(uncertainty)), 0), _MOST_DECIMALS)
    return f"{value:,.{decimals}f}"
