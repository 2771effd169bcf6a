"""A comparison as text for people, as Markdown and as LaTeX."""

from __future__ import annotations

from flexbert.tasks.comparison import Comparison
from flexbert.tasks.comparison_tables import difference_table, point_table, score_table
from flexbert.text_tables import TextTable, tables_latex, tables_markdown, tables_text


def comparison_text(found: Comparison) -> str:
    """What ``flexbert compare`` prints, in up to 100 columns where names leave room."""
    return tables_text(_tables(found), _remarks(found))


def comparison_markdown(found: Comparison) -> str:
    """The same as Markdown."""
    return tables_markdown(_tables(found), _remarks(found))


def comparison_latex(found: Comparison) -> str:
    """Scores and differences as tables for LaTeX; they need ``\\usepackage{booktabs}``."""
    tables = [score_table(found), difference_table(found)]
    return tables_latex([table for table in tables if table is not None], _remarks(found))


def _tables(found: Comparison) -> list[TextTable]:
    tables = (score_table(found), difference_table(found), point_table(found))
    return [table for table in tables if table is not None]


def _remarks(found: Comparison) -> list[str]:
    return [*found.below_floor, *found.notes]
