"""Read pieces of input files row by row: a good row is a ``Document``, a bad one a ``Reject``.

Nothing but the file's own format is known here: neither tokens nor folders of the corpus.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from data_prep.columns import arrow_rows, parquet_rows
from data_prep.comma_separated import csv_rows
from data_prep.compression import BUFFER_BYTES, TruncatedFileError, is_compressed_text, open_input
from data_prep.hub_datasets import dataset_rows
from data_prep.rows import (
    UTF8_BYTES,
    Document,
    Fields,
    Reject,
    Row,
    check_bytes,
    check_text,
    make_row,
)
from data_prep.sources import ARROW, CSV, DATASET, JSONL, PARQUET, TEXT, Piece
from flexbert.errors import UserError

__all__ = ["Document", "Fields", "Reject", "Row", "check_bytes", "check_text", "read_piece"]

UTF8_BOM = b"\xef\xbb\xbf"
# A character beyond the first 65,536 is written as two escapes of six bytes.
ESCAPED_BYTES = 12
# Bytes that a line may have beyond its text.
OTHER_FIELDS = 1 << 20


def read_piece(piece: Piece, fields: Fields) -> Iterator[Row]:
    """All rows of a piece, in order.

    Raises:
        UserError: if the file cannot be read, or no row of it can have the fields.
    """
    try:
        yield from READERS[piece.file.format](piece, fields)
    except TruncatedFileError:
        if not fields.keep_truncated:
            raise
        yield Reject.TRUNCATED
    except OSError as error:
        raise UserError(f"{piece.file.path}: cannot be read ({error.strerror or error})") from error


def read_text(piece: Piece, fields: Fields) -> Iterator[Row]:
    """The whole file is one document."""
    limit = UTF8_BYTES * fields.max_characters + len(UTF8_BOM)
    with open_input(piece.file.path) as file:
        data = file.read(limit + 1)
    text = data.removeprefix(UTF8_BOM)
    yield Reject.TOO_LONG if len(data) > limit else make_row(text, None, fields)


def read_jsonl(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One object a line; the lines that begin within the piece."""
    limit = ESCAPED_BYTES * fields.max_characters + OTHER_FIELDS
    stop = math.inf if is_compressed_text(piece.file.path) else piece.stop
    with open_input(piece.file.path) as file:
        position = piece.start
        if position > 0:
            # A line that began earlier belongs to an earlier piece.
            position = file.seek(position - 1)
            position += _skip_line(file, stop - position)
        while position < stop and (line := file.readline(limit)):
            if position == 0 and line.removeprefix(UTF8_BOM).lstrip().startswith(b"["):
                raise UserError(
                    f"{piece.file.path}: begins with '[', a JSON array; "
                    "write one JSON object a line (JSON lines)"
                )
            position += len(line)
            if len(line) < limit or line.endswith(b"\n"):
                yield _json_row(line.removeprefix(UTF8_BOM), fields)
            else:
                position += _skip_line(file)
                yield Reject.TOO_LONG


def read_parquet(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One row a document; the row groups of the piece."""
    return parquet_rows(piece.file.path, piece.start, piece.stop, fields)


def read_arrow(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One row a document; the record batches of the piece."""
    return arrow_rows(piece.file.path, piece.start, piece.stop, fields)


def read_csv(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One record a document."""
    return csv_rows(piece.file.path, fields)


def read_dataset(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One row a document; the shards of the piece."""
    return dataset_rows(piece.file.path, piece.start, piece.stop, fields)


READERS = {
    TEXT: read_text,
    JSONL: read_jsonl,
    PARQUET: read_parquet,
    CSV: read_csv,
    ARROW: read_arrow,
    DATASET: read_dataset,
}


def _skip_line(file: BinaryIO, at_least: float = math.inf) -> int:
    """Read on to the end of a line, or by ``at_least`` bytes; returns how many they were."""
    skipped = 0
    while skipped < at_least and (line := file.readline(BUFFER_BYTES)):
        skipped += len(line)
        if line.endswith(b"\n"):
            break
    return skipped


def _json_row(line: bytes, fields: Fields) -> Row:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return Reject.BINARY if b"\0" in line else Reject.INVALID_UTF8
    if not text or text.isspace():
        return Reject.EMPTY
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Reject.BINARY if "\0" in text else Reject.INVALID_JSON
    if not isinstance(record, dict):
        return Reject.NOT_AN_OBJECT
    if fields.text not in record:
        return Reject.MISSING
    label = None if fields.label is None else record.get(fields.label)
    return make_row(record[fields.text], label, fields)
