"""What a sweep over a suite comes to: for each model a comparison of the points."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flexbert.config.encode import encode
from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_text
from flexbert.files.file_lock import file_lock
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.suite_points import SuitePoint
from flexbert.tasks.compare_models import compare_fits
from flexbert.tasks.comparison import CompareRequest, Comparison
from flexbert.tasks.comparison_picture import draw_comparison
from flexbert.tasks.comparison_text import comparison_markdown, comparison_text
from flexbert.tasks.floor_fits import make_floors
from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.search import finished_fits

MARKDOWN, JSON = "table.md", "table.json"
_LOCK = ".table.lock"


@dataclass(frozen=True, kw_only=True)
class SuiteTable:
    """The points of a model, compared.

    Attributes:
        tests: on the test splits; None where no task has any.
        unfinished: what is not finished, a line for each point.
    """

    model: str
    validation: Comparison
    tests: Comparison | None
    unfinished: tuple[str, ...]


def report_suite(
    points: Sequence[SuitePoint], reference: SweepPoint, folder: Path
) -> list[SuiteTable]:
    """Write the tables of what is finished so far, and a picture for each model.

    Raises:
        UserError: if nothing is finished, or a file cannot be written.
    """
    make_folder(folder)
    # Rows of a table stand in this order, and the first is what others are compared with.
    ordered = sorted(points, key=lambda each: each.point.label != reference.label)
    with file_lock(folder / _LOCK):
        make_floors(ordered[0].search)
        tables = [*_tables(ordered)]
        if not tables:
            raise UserError(f"{folder}: no fit is finished")
        write_text(folder / MARKDOWN, "\n".join(map(_markdown, tables)))
        write_text(folder / JSON, json.dumps(encode(tuple(tables)), indent=2) + "\n")
        for table in tables:
            name = re.sub(r"[^\w.-]+", "-", table.model)
            draw_comparison(table.tests or table.validation, folder / f"{name}.png")
    return tables


def suite_tables_text(tables: Sequence[SuiteTable]) -> str:
    """The tables for people: of the test splits alone, where every task has one."""
    parts = []
    for table in tables:
        shown = [comparison_text(each) for each in _shown(table)]
        parts.append("\n\n".join([f"# {table.model}", *shown, *table.unfinished]))
    return "\n\n".join(parts)


def _shown(table: SuiteTable) -> list[Comparison]:
    if table.tests is None:
        return [table.validation]
    tested = {column.task for column in table.tests.columns}
    every = tested == {column.task for column in table.validation.columns}
    return [table.tests] if every else [table.validation, table.tests]


def _markdown(table: SuiteTable) -> str:
    parts = [f"## {table.model}", "### Validation rows", comparison_markdown(table.validation)]
    if table.tests is not None:
        parts += ["### Test rows", comparison_markdown(table.tests)]
    if table.unfinished:
        parts.append("\n".join(f"- {line}" for line in table.unfinished))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _tables(points: Sequence[SuitePoint]) -> Iterator[SuiteTable]:
    """Of each model that has a finished fit."""
    kept = [_kept(each) for each in points]
    floors = [fit for fit in kept[0] if fit.record.mode == "floor"]
    unfinished = tuple(_unfinished(points))
    for model in points[0].search.models:
        own = [
            # Under the point's name: the model is the table's.
            replace(fit, record=replace(fit.record, model=each.point.label))
            for each, fits in zip(points, kept, strict=True)
            for fit in fits
            if fit.record.model_fingerprint == model.fingerprint
            and fit.record.mode == each.search.mode
        ]
        if not own:
            continue
        compared = [*own, *floors]
        has_tests = any(fit.record.tests for fit in own)
        yield SuiteTable(
            model=model.label,
            validation=compare_fits(compared, CompareRequest()),
            tests=compare_fits(compared, CompareRequest(tests=True)) if has_tests else None,
            unfinished=unfinished,
        )


def _kept(point: SuitePoint) -> list[KeptFit]:
    folder = point.search.folder
    return [KeptFit(record=each, folder=folder) for each in finished_fits(folder).values()]


def _unfinished(points: Sequence[SuitePoint]) -> Iterator[str]:
    for each in points:
        progress = each.search.progress(finished_fits(each.search.folder))
        if not progress.is_over:
            count = f"{progress.finished} of {progress.known}"
            yield f"{each.point.label}: not finished, {count} fits of all models"
