"""Rows of a source as they stand there: a file, a dataset of the hub, the offline suite.

Unlike text for a corpus, a task's row is taken whole, and one that cannot be read is an error: a
score over the rest would be another task's.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.columns import open_parquet
from data_prep.comma_separated import FIELD_LIMIT
from data_prep.compression import open_input
from data_prep.formats import CSV, JSONL, PARQUET, TSV, format_of
from data_prep.hub_datasets import PREFIX, open_dataset
from data_prep.readers import parse_line, refuse_array
from data_prep.rows import Reject
from flexbert.errors import UserError, did_you_mean, first_line

OFFLINE = "offline:"
FORMATS = (JSONL, CSV, TSV, PARQUET)
TaskRow = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """
    Attributes:
        source: as it was given.
        rows: column to value, as the source has it; every value of a CSV file is a text.
    """

    source: str
    rows: list[TaskRow]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the rows, 16 hexadecimal digits: the same for the same rows in the same order,
        wherever they are from.
        """
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row_text(row).encode() + b"\n")
        return digest.hexdigest()[:16]

    def place(self, index: int) -> str:
        """Where a row stands, for messages."""
        return f"{self.source}: row {index + 1:,}"


def read_table(source: str) -> Table:
    """All rows of a source.

    Raises:
        UserError: if it cannot be read, or has no rows.
    """
    if source.startswith(OFFLINE):
        rows = _offline(source)
    elif source.startswith(PREFIX) and not Path(source).exists():
        rows = list(_dataset(source))
    else:
        rows = list(_file(Path(source).expanduser()))
    if not rows:
        raise UserError(f"{source}: has no rows")
    return Table(source=source, rows=rows)


def row_text(row: TaskRow) -> str:
    """A row in one line, numbers as a CSV file has them: the same from a file of any format."""
    plain = {
        column: value if isinstance(value, list | dict) else str(value)
        for column, value in row.items()
    }
    return json.dumps(plain, sort_keys=True, default=repr)


def _offline(source: str) -> list[TaskRow]:
    # Not before it is asked for: it reads what is installed.
    from flexbert.tasks.offline.offline_rows import offline_rows

    task, _, split = source.removeprefix(OFFLINE).partition(":")
    return offline_rows(task, split)


def _dataset(source: str) -> Iterator[TaskRow]:
    dataset = open_dataset(source)
    names = _class_names(dataset)
    try:
        for row in dataset:
            yield {column: _named(value, names.get(column)) for column, value in row.items()}
    except Exception as error:  # whatever the network, its libraries and the data raise
        raise UserError(f"{source}: cannot be read ({first_line(error)})") from None


def _class_names(dataset: Any) -> dict[str, list[str]]:
    """The names of the classes of columns, or of lists in them, that hold classes."""
    found = {}
    for column, feature in (dataset.features or {}).items():
        inner = getattr(feature, "feature", feature)
        if hasattr(inner, "names") and hasattr(inner, "int2str"):
            found[column] = list(inner.names)
    return found


def _named(value: Any, names: list[str] | None) -> Any:
    """A class by its name; the hub's -1 is no class."""
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return names[value] if 0 <= value < len(names) else None


def _file(path: Path) -> Iterator[TaskRow]:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file of it")
    if not path.exists():
        near = did_you_mean(path.name, (each.name for each in path.parent.glob("[!.]*.*")))
        raise UserError(f"{path}: no such file; {near}")
    format_ = format_of(path)
    if format_ not in FORMATS:
        raise UserError(f"{path}: a task's rows are in a file of {', '.join(FORMATS)}")
    try:
        if format_ == PARQUET:
            yield from _parquet_rows(path)
        elif format_ == JSONL:
            yield from _json_rows(path)
        else:
            yield from _csv_rows(path, "\t" if format_ == TSV else ",")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None


def _parquet_rows(path: Path) -> Iterator[TaskRow]:
    import pyarrow as pa

    try:
        for batch in open_parquet(str(path)).iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from None


def _json_rows(path: Path) -> Iterator[TaskRow]:
    with open_input(str(path)) as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                refuse_array(str(path), line)
            record = parse_line(line)
            if record is Reject.EMPTY:
                continue
            if isinstance(record, Reject):
                raise UserError(f"{path}: line {number:,}: {record.value}")
            yield record


def _csv_rows(path: Path, delimiter: str) -> Iterator[TaskRow]:
    csv.field_size_limit(FIELD_LIMIT)
    with io.TextIOWrapper(open_input(str(path)), encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(records, [])
            if twice := [name for name in header if header.count(name) > 1]:
                raise UserError(f"{path}: column {twice[0]!r} is there twice")
            for record in records:
                if not record:
                    continue
                if len(record) != len(header):
                    raise UserError(
                        f"{path}: line {records.line_num:,}: {len(record)} fields, and the header "
                        f"has {len(header)}"
                    )
                yield dict(zip(header, record, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}: line {records.line_num:,}: {first_line(error)}") from None
