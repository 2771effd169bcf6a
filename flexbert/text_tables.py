"""Tables of text: for people, as Markdown and as LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

PLUS_MINUS = "+-"
WIDTH = 100
_NARROWEST_LABEL = 24
_INDENT = "  "
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


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """
    Attributes:
        header: lines of cells, each as long as a row.
        groups: rows of cells; groups have a rule between them.
        title: above a plain table; '' where what is around it says what it is.
        num_labels: the columns that name a row, in front; they are set to the left.
        num_words: the columns of words at the end, set to the left too.
        wraps_labels: whether a label of ``key=value,key=value`` that leaves a plain table no room
            goes on below, after a comma.
    """

    header: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]
    title: str = ""
    num_labels: int = 1
    num_words: int = 0
    wraps_labels: bool = False


def tables_text(tables: Sequence[TextTable], remarks: Sequence[str]) -> str:
    """Tables and what has to be known of them, in up to 100 columns where names leave room."""
    lines = [plain for table in tables for plain in (plain_table(table), "")]
    return "\n".join([*lines, *map(_wrapped, remarks)]).rstrip()


def tables_markdown(tables: Sequence[TextTable], remarks: Sequence[str]) -> str:
    """The same as Markdown."""
    lines = [f"- {_markdown_cell(remark)}" for remark in remarks]
    return "\n\n".join([*map(_markdown, tables), "\n".join(lines)]).rstrip() + "\n"


def tables_latex(tables: Sequence[TextTable], remarks: Sequence[str]) -> str:
    """The same for LaTeX, remarks as its comments; it needs ``\\usepackage{booktabs}``."""
    comments = "\n".join(f"% {remark}" for remark in remarks)
    return "\n\n".join([comments, *map(_latex, tables)]).lstrip() + "\n"


def plain_table(table: TextTable) -> str:
    """A table in as many blocks of columns as its width takes, its labels in each."""
    table = _with_wrapped_labels(table) if table.wraps_labels else table
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
    shown = [_block(table, labels + block, widths) for block in blocks]
    return "\n\n".join([*filter(None, [_wrapped(table.title)]), *shown])


def _with_wrapped_labels(table: TextTable) -> TextTable:
    """The table with one more row for each line that a first label takes."""
    rows = [*table.header, *(row for group in table.groups for row in group)]
    others = sum(max(len(row[index]) for row in rows) for index in range(1, len(rows[0])))
    width = max(_NARROWEST_LABEL, WIDTH - others - len(_BETWEEN) * (len(rows[0]) - 1))

    def lines(row: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        first, *below = label_lines(row[0], width)
        yield first, *row[1:]
        for line in below:
            yield f"{_INDENT}{line}", *[""] * (len(row) - 1)

    groups = tuple(tuple(line for row in group for line in lines(row)) for group in table.groups)
    return replace(table, groups=groups)


def label_lines(label: str, width: int) -> list[str]:
    """A label in lines of up to ``width``, broken after commas, or else at joints of a name."""
    if len(label) <= width:
        return [label]
    room = width - len(_INDENT)
    found = [""]
    for part in re.findall(r"[^,]*,|[^,]+", label):
        joints = [part] if len(part) <= room else re.findall(r"[^=_./ ]*[=_./ ]|[^=_./ ]+", part)
        for text in joints:
            for begin in range(0, len(text), room):
                cut = text[begin : begin + room]
                if found[-1] and len(found[-1]) + len(cut) > room:
                    found.append("")
                found[-1] += cut
    return found


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
    return textwrap.fill(line, WIDTH, subsequent_indent=_INDENT, break_on_hyphens=False)


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
