"""A sweep's table as text for people, as Markdown and as LaTeX."""

from __future__ import annotations

from flexbert.sweeps.sweep_cells import SweepCell
from flexbert.sweeps.sweep_table import SweepTable
from flexbert.tasks.text_tables import (
    PLUS_MINUS,
    TextTable,
    tables_latex,
    tables_markdown,
    tables_text,
)

_NONE = "-"


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
    return TextTable(
        title=f"{table.name}: mean over seeds {PLUS_MINUS} standard deviation; "
        f"{table.finished} of {table.total} runs are finished",
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
    return TextTable(
        title=f"{measure}: differences to {table.reference}, paired by seed",
        header=(("point", "difference", "95% interval", "seeds", p, "needs", ""),),
        groups=(tuple(rows),),
        num_words=1,
        wraps_labels=True,
    )


def _mean(cell: SweepCell) -> str:
    if cell.mean is None:
        return "nan" if cell.diverged else _NONE
    spread = "" if cell.spread is None else f" {PLUS_MINUS} {cell.spread:.3g}"
    return f"{cell.mean:.5g}{spread}"


def _difference(cell: SweepCell) -> tuple[str, ...]:
    found = cell.difference
    if found is None or found.estimate is None:
        return (*[_NONE] * 5, "not known")
    interval = f"{found.low:+.3g} to {found.high:+.3g}" if found.basis else _NONE
    needs = _NONE if found.needed is None else f"{found.needed:,}"
    p = _NONE if cell.holm is None else f"{cell.holm:.2g}" if cell.holm >= 1e-3 else "<0.001"
    return f"{found.estimate:+.4g}", interval, str(found.count), p, needs, str(cell.verdict)
