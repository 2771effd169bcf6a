"""Read pieces of input files row by row: a good row is a ``Document``, a bad one a ``Reject``.

Nothing but the file's own format is known here: neither tokens nor folders of the corpus.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from data_prep.columns import arrow_rows, parquet_rows
from data_prep.comma_separated import COMMA, TAB, csv_rows
from data_prep.compression import BUFFER_BYTES, TruncatedFileError, is_compressed_text, open_input
from data_prep.document_transforms import transform_rows, transforms_of
from data_prep.field_paths import ABSENT, look_up
from data_prep.formats import ARROW, CSV, DATASET, HTML, JSONL, LINES, PARQUET, TEXT, TSV
from data_prep.html_text import decode_html
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
    text_row,
)
from data_prep.sources import Piece
from flexbert.errors import UserError

__all__ = ["Document", "Fields", "Reject", "Row", "check_bytes", "check_text", "read_piece"]

UTF8_BOM = b"\xef\xbb\xbf"
# A character beyond the first 65,536 is written as two escapes of six bytes.
ESCAPED_BYTES = 12
# Bytes that a line may have beyond its text.
OTHER_FIELDS = 1 << 20


def read_piece(piece: Piece, fields: Fields) -> Iterator[Row]:
    """All rows of a piece, in order, after the transforms that lie before the tokenizer.

    Args:
        fields: what to take of a row where the piece's input does not say it itself.

    Raises:
        UserError: if the file cannot be read, or no row of it can have the fields.
    """
    fields = piece.file.fields or fields
    rows = READERS[piece.file.format](piece, fields)
    transforms = transforms_of(piece.file, fields)
    try:
        yield from transform_rows(rows, transforms) if transforms else rows
    except TruncatedFileError:
        if not fields.keep_truncated:
            raise
        yield Reject.TRUNCATED
    except OSError as error:
        raise UserError(f"{piece.file.path}: cannot be read ({error.strerror or error})") from error


def read_text(piece: Piece, fields: Fields) -> Iterator[Row]:
    """The whole file is one document."""
    text = _whole_file(piece, fields)
    yield text if isinstance(text, Reject) else text_row(text, fields)


def read_html(piece: Piece, fields: Fields) -> Iterator[Row]:
    """The whole file is one page, still with its tags, in whatever encoding it says it has."""
    page = _whole_file(piece, fields)
    yield page if isinstance(page, Reject) else text_row(decode_html(page), fields)


def _whole_file(piece: Piece, fields: Fields) -> bytes | Reject:
    limit = UTF8_BYTES * fields.max_characters + len(UTF8_BOM)
    with open_input(piece.file.path) as file:
        data = file.read(limit + 1)
    return Reject.TOO_LONG if len(data) > limit else data.removeprefix(UTF8_BOM)


def read_jsonl(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One object a line; the lines that begin within the piece."""
    limit = ESCAPED_BYTES * fields.max_characters + OTHER_FIELDS
    return _read_lines(piece, limit, lambda line: json_row(line, fields), as_text=False)


def read_lines(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One document a line; the lines that begin within the piece."""
    limit = UTF8_BYTES * fields.max_characters + OTHER_FIELDS
    return _read_lines(
        piece, limit, lambda line: text_row(line.rstrip(b"\r\n"), fields), as_text=True
    )


def _read_lines(
    piece: Piece, limit: int, make: Callable[[bytes], Row], *, as_text: bool
) -> Iterator[Row]:
    """The rows of the lines that begin within the piece.

    Args:
        limit: bytes; a longer line is not held in memory.
        make: the row of a line.
        as_text: whether lines are plain text, and not JSON.
    """
    stop = math.inf if is_compressed_text(piece.file.path) else piece.stop
    with open_input(piece.file.path) as file:
        position = piece.start
        if position > 0:
            # A line that began earlier belongs to an earlier piece.
            position = file.seek(position - 1)
            position += _skip_line(file, stop - position)
        while position < stop and (line := file.readline(limit)):
            plain = line.removeprefix(UTF8_BOM)
            if position == 0 and not as_text:
                refuse_array(piece.file.path, plain)
            position += len(line)
            if len(line) < limit or line.endswith(b"\n"):
                yield make(plain)
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
    return csv_rows(piece.file.path, fields, DELIMITER[piece.file.format])


def read_dataset(piece: Piece, fields: Fields) -> Iterator[Row]:
    """One row a document; the shards of the piece."""
    return dataset_rows(piece.file.path, piece.start, piece.stop, fields)


DELIMITER = {CSV: COMMA, TSV: TAB}
READERS = {
    TEXT: read_text,
    HTML: read_html,
    JSONL: read_jsonl,
    LINES: read_lines,
    PARQUET: read_parquet,
    CSV: read_csv,
    TSV: read_csv,
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


def refuse_array(path: str, line: bytes) -> None:
    """Raises UserError if the first line of JSON lines, without its mark, begins an array."""
    if line.lstrip().startswith(b"["):
        raise UserError(
            f"{path}: begins with '[', a JSON array; write one JSON object a line (JSON lines)"
        )


def parse_line(line: bytes) -> dict[str, Any] | Reject:
    """The object of a line of JSON."""
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
    return record if isinstance(record, dict) else Reject.NOT_AN_OBJECT


def json_row(line: bytes, fields: Fields) -> Row:
    """The row of a line of JSON."""
    record = parse_line(line)
    if isinstance(record, Reject):
        return record
    values = [look_up(record, name) for name in fields.text_fields]
    if any(value is ABSENT for value in values):
        return Reject.MISSING
    label = ABSENT if fields.label is None else look_up(record, fields.label)
    return make_row(values, None if label is ABSENT else label, fields)
