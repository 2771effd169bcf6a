"""Read pieces of input files row by row: a document is a ``str``, a bad row a ``Reject``.

Nothing but the file's own format is known here: neither tokens nor folders of the corpus.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from data_prep.sources import CSV, JSONL, PARQUET, TEXT, InputFile, Piece
from flexbert.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pyarrow.parquet

PARQUET_ROWS = 1024
# The csv module's own limit is 131,072 characters a field; a document may be any size.
CSV_FIELD_LIMIT = 2**31 - 1
UTF8_BOM = b"\xef\xbb\xbf"


class Reject(Enum):
    """Why a row is not a document; the value is what the report prints."""

    INVALID_UTF8 = "invalid UTF-8"
    INVALID_JSON = "invalid JSON"
    NOT_AN_OBJECT = "not a JSON object"
    MISSING = "text field missing"
    NULL = "text field null"
    NOT_TEXT = "text field not a string"
    EMPTY = "empty or only whitespace"
    NO_TOKENS = "no tokens"


Row = str | Reject


def read_piece(piece: Piece, text_field: str) -> Iterator[Row]:
    """All rows of a piece, in order.

    Raises:
        UserError: if the file cannot be read, or no row of it can have the text field.
    """
    try:
        yield from READERS[piece.file.format](piece, text_field)
    except OSError as error:
        raise UserError(f"{piece.file.path}: cannot be read ({error.strerror or error})") from error


def read_text(piece: Piece, text_field: str) -> Iterator[Row]:
    """The whole file is one document."""
    with open(piece.file.path, "rb") as file:
        yield check_bytes(file.read().removeprefix(UTF8_BOM))


def read_jsonl(piece: Piece, text_field: str) -> Iterator[Row]:
    """One object a line; the lines that begin within the piece."""
    with open(piece.file.path, "rb") as file:
        if piece.start > 0:
            # A line that began earlier belongs to an earlier piece.
            file.seek(piece.start - 1)
            file.readline()
        elif file.peek(1).removeprefix(UTF8_BOM).lstrip().startswith(b"["):
            raise UserError(
                f"{piece.file.path}: begins with '[', a JSON array; "
                "write one JSON object a line (JSON lines)"
            )
        while file.tell() < piece.stop:
            yield _check_json_line(file.readline().removeprefix(UTF8_BOM), text_field)


def read_parquet(piece: Piece, text_field: str) -> Iterator[Row]:
    """One row a document; the row groups of the piece."""
    import pyarrow as pa

    file = open_parquet(piece.file)
    names = file.schema_arrow.names
    _check_field(piece.file, text_field, names)
    try:
        batches = file.iter_batches(
            PARQUET_ROWS, row_groups=range(piece.start, piece.stop), columns=[text_field]
        )
        for batch in batches:
            # As bytes: pyarrow does not check UTF-8, and raises for a whole batch if asked to.
            for value in batch.column(0).cast(pa.large_binary()).to_pylist():
                yield Reject.NULL if value is None else check_bytes(value)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"{piece.file.path}: column {text_field!r} cannot be read as text ({error})"
        ) from error


def read_csv(piece: Piece, text_field: str) -> Iterator[Row]:
    """One record a document; the first record names the fields."""
    csv.field_size_limit(CSV_FIELD_LIMIT)
    # Invalid bytes become lone surrogates, which check_text finds in the one field that matters.
    with open(piece.file.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        records = csv.reader(lines)
        header = next(records, [])
        _check_field(piece.file, text_field, header)
        column = header.index(text_field)
        last_line = records.line_num
        for record in records:
            # A record is whole when its last line is read; the reader asks for one more only within
            # quotes, and at the end would pass off the rest of the file as one document.
            if lines.ended:
                raise UserError(
                    f"{piece.file.path}: the record at line {last_line + 1} opens a quote that "
                    "is never closed"
                )
            last_line = records.line_num
            yield check_text(record[column]) if column < len(record) else Reject.MISSING


class _Lines:
    """The lines of a file, and whether a reader has asked for more than there are."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        yield from self.lines
        self.ended = True


READERS = {TEXT: read_text, JSONL: read_jsonl, PARQUET: read_parquet, CSV: read_csv}


def open_parquet(file: InputFile) -> pyarrow.parquet.ParquetFile:
    """Open a Parquet file.

    Raises:
        UserError: if it is not one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file.path}: not a readable Parquet file ({error})") from error


def check_bytes(value: bytes) -> Row:
    """The text of UTF-8 bytes, or why it is not a document."""
    try:
        return check_text(value.decode())
    except UnicodeDecodeError:
        return Reject.INVALID_UTF8


def check_text(value: str) -> Row:
    """The text itself, or why it is not a document."""
    if not value or value.isspace():
        return Reject.EMPTY
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return Reject.INVALID_UTF8
    return value


def _check_json_line(line: bytes, text_field: str) -> Row:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return Reject.INVALID_UTF8
    if not text.strip():
        return Reject.EMPTY
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Reject.INVALID_JSON
    if not isinstance(record, dict):
        return Reject.NOT_AN_OBJECT
    if text_field not in record:
        return Reject.MISSING
    value = record[text_field]
    if value is None:
        return Reject.NULL
    return check_text(value) if isinstance(value, str) else Reject.NOT_TEXT


def _check_field(file: InputFile, text_field: str, names: list[str]) -> None:
    if text_field not in names:
        raise UserError(
            f"{file.path}: no column {text_field!r}; {did_you_mean(text_field, names)}; "
            "name the column with --text-field"
        )
