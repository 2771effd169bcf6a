"""CSV files record by record: whatever is in them, no record is lost and memory is bounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator

from data_prep.columns import check_columns
from data_prep.compression import open_input
from data_prep.rows import Fields, Reject, Row, make_row
from flexbert.errors import UserError

# The csv module's own limit is 131,072 characters a field.
FIELD_LIMIT = 2**31 - 1
# Characters that a record may have beyond its text, where quotes may stand doubled.
OTHER_FIELDS = 1 << 20


class _RecordTooLongError(Exception):
    """Raised within a csv reader, by the lines that it reads."""


class _Lines:
    """The lines of a file for a csv reader, and what they say about the present record."""

    def __init__(self, file: io.TextIOBase, limit: int) -> None:
        self.file = file
        self.limit = limit
        self.number = 0
        self.ended = False
        self.begin_record()

    def begin_record(self) -> None:
        self.first = self.number
        self.characters = self.quotes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._read()
        if not line:
            self.ended = True
            raise StopIteration
        if self.characters >= self.limit:
            while line and (self.quotes % 2 or not line.endswith(("\n", "\r"))):
                line = self._read()
            self.ended = self.quotes % 2 == 1
            raise _RecordTooLongError
        return line

    def skip(self, count: int) -> None:
        for _ in range(count):
            self._read()
        self.begin_record()

    def _read(self) -> str:
        line = self.file.readline(self.limit)
        self.number += 1
        self.characters += len(line)
        self.quotes += line.count('"')
        return line


def csv_rows(path: str, fields: Fields) -> Iterator[Row]:
    """One record a row; the first record names the fields.

    A quote that is never closed makes the rest of the file one record. It is then a reject, and
    reading goes on at the line after the one where that record began; it ends, because every such
    reject leaves a line behind.
    """
    after: int | None = 0
    while after is not None:
        after = yield from _rows_after(path, after, fields)


def _rows_after(path: str, skipped: int, fields: Fields) -> Generator[Row, None, int | None]:
    """The rows after this many lines; returns the line to go on after, or None at the end."""
    csv.field_size_limit(FIELD_LIMIT)
    limit = 2 * fields.max_characters + OTHER_FIELDS
    with io.TextIOWrapper(
        # Invalid bytes become lone surrogates, found in the one field that matters.
        open_input(path),
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
    ) as file:
        lines = _Lines(file, limit)
        records = csv.reader(lines)
        try:
            header = next(records, [])
        except _RecordTooLongError:
            header = []
        if lines.ended and header:
            raise UserError(f"{path}: its first record opens a quote that is never closed")
        check_columns(path, fields, header)
        text = header.index(fields.text)
        label = None if fields.label is None else header.index(fields.label)
        if skipped:
            lines.skip(skipped - lines.number)
        while True:
            lines.begin_record()
            try:
                record = next(records, None)
                if record is None:
                    return None
                row = _row(record, text, label, fields)
            except _RecordTooLongError:
                row = Reject.TOO_LONG
            # A record is whole when its last line is read; the reader asks for one more only
            # within quotes.
            if lines.ended:
                yield Reject.UNCLOSED_QUOTE
                return lines.first + 1
            yield row


def _row(record: list[str], text: int, label: int | None, fields: Fields) -> Row:
    if text >= len(record):
        return Reject.MISSING
    labels = record[label : label + 1] if label is not None else []
    return make_row(record[text], labels[0] if labels else None, fields)
