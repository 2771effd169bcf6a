"""A comparison as text for people, as Markdown and as LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from flexbert.tasks.comparison import Comparison
from flexbert.tasks.comparison_tables import (
    PLUS_MINUS,
    TextTable,
    difference_table,
    point_table,
    score_table,
)

WIDTH = 100
_BETWEEN = "  "
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def comparison_text(found: Comparison) -> str:
    """What ``flexbert compare`` prints, in up to 100 columns where names leave room."""
    lines = [plain for table in _tables(found) for plain in (_plain(table), "")]
    lines += [_wrapped(line) for line in (*found.below_floor, *found.notes)]
    return "\n".join(lines).rstrip()


def comparison_markdown(found: Comparison) -> str:
    """The same as Markdown."""
    parts = [_markdown(table) for table in _tables(found)]
    lines = [f"- {_markdown_cell(line)}" for line in (*found.below_floor, *found.notes)]
    return "\n\n".join([*parts, "\n".join(lines)]).rstrip() + "\n"


def comparison_latex(found: Comparison) -> str:
    """Scores and differences as tables for LaTeX; they need ``\\usepackage{booktabs}``."""
    tables = [score_table(found), difference_table(found)]
    parts = [_latex(table) for table in tables if table is not None]
    remarks = [f"% {line}" for line in (*found.below_floor, *found.notes)]
    return "\n\n".join(["\n".join(remarks), *parts]).lstrip() + "\n"


def _tables(found: Comparison) -> list[TextTable]:
    tables = (score_table(found), difference_table(found), point_table(found))
    return [table for table in tables if table is not None]


def _plain(table: TextTable) -> str:
    """A table in as many blocks of columns as its width takes, its labels in each."""
    rows = [*table.header, *(row for group in table.groups for row in group)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    labels = list(range(table.num_labels))
    blocks: list[list[int]] = [[]]
    for index in range(table.num_labels, len(widths)):
        taken = sum(widths[one] + len(_BETWEEN) for one in [*labels, *blocks[-1], index])
        # Words at the end break no table: a long line is easier to read.
        is_words = index >= len(widths) - table.num_words
        if blocks[-1] and taken - len(_BETWEEN) > WIDTH and not is_words:
            blocks.append([])
        blocks[-1].append(index)
    return "\n\n".join([table.title, *(_block(table, labels + block, widths) for block in blocks)])


def _block(table: TextTable, columns: Sequence[int], widths: Sequence[int]) -> str:
    left = {*range(table.num_labels), *range(len(widths) - table.num_words, len(widths))}

    def line(row: Sequence[str]) -> str:
        cells = (
            row[index].ljust(widths[index]) if index in left else row[index].rjust(widths[index])
            for index in columns
        )
        return _BETWEEN.join(cells).rstrip()

    header = [line(row) for row in table.header]
    width = sum(widths[index] for index in columns) + len(_BETWEEN) * (len(columns) - 1)
    rule = "-" * min(width, WIDTH)
    groups = ["\n".join(map(line, group)) for group in table.groups]
    return "\n".join([*header, rule, f"\n{rule}\n".join(groups)])


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _markdown(table: TextTable) -> str:
    header = [" ".join(filter(None, cells)) for cells in zip(*table.header, strict=True)]
    words = len(header) - table.num_words
    rule = [
        ":--" if index < table.num_labels or index >= words else "--:"
        for index in range(len(header))
    ]
    lines = [
        _markdown_row(header),
        _markdown_row(rule),
        *(_markdown_row(map(_markdown_cell, row)) for group in table.groups for row in group),
    ]
    return f"**{_markdown_cell(table.title)}**\n\n" + "\n".join(lines)


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(text: str) -> str:
    for char in "\\|*_<`":
        text = text.replace(char, f"\\{char}")
    return text.replace(PLUS_MINUS, "±")


def _latex(table: TextTable) -> str:
    num_columns = len(table.header[0])
    words = num_columns - table.num_words
    alignment = "".join(
        "l" if index < table.num_labels or index >= words else "r" for index in range(num_columns)
    )

    def row(cells: Sequence[str]) -> str:
        escaped = [_latex_cell(cell) for cell in cells]
        numbers = slice(table.num_labels, words)
        # A hyphen is no minus.
        escaped[numbers] = [re.sub(r"-(?=\d)", r"$-$", cell) for cell in escaped[numbers]]
        return f"{' & '.join(escaped)} \\\\"

    groups = "\n\\midrule\n".join("\n".join(map(row, group)) for group in table.groups)
    return "\n".join(
        [
            f"% {table.title}",
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            *map(row, table.header),
            "\\midrule",
            groups,
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _latex_cell(text: str) -> str:
    escaped = "".join(_LATEX.get(char, char) for char in text)
    return escaped.replace(PLUS_MINUS, r"$\pm$")
