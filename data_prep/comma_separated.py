"""CSV and TSV files record by record: no record is lost whatever is in them, in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator

from data_prep.compression import open_input
from data_prep.field_paths import check_fields
from data_prep.rows import Fields, Reject, Row, make_row
from flexbert.errors import UserError

# The csv module's own limit is 131,072 characters a field.
FIELD_LIMIT = 2**31 - 1
# Characters that a record may have beyond its text, where quotes may stand doubled.
OTHER_FIELDS = 1 << 20
COMMA, TAB = ",", "\t"
# What is tried to say what a header that lacks a column is separated by.
DELIMITERS = {COMMA: "a comma", ";": "a semicolon", TAB: "a tab", "|": "a bar"}


class _RecordTooLongError(Exception):
    """Raised within a csv reader, by the lines that it reads."""


class _Lines:
    """The lines of a file for a csv reader, and what they say about the present record."""

    def __init__(self, file: io.TextIOBase, limit: int, quote: str) -> None:
        self.file = file
        self.limit = limit
        self.quote = quote
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
        self.quotes += line.count(self.quote) if self.quote else 0
        return line


def csv_rows(path: str, fields: Fields, delimiter: str) -> Iterator[Row]:
    """One record a row; the first record names the fields.

    A quote that is never closed makes the rest of the file one record. It is then a reject, and
    reading goes on at the line after the one where that record began; it ends, because every such
    reject leaves a line behind.

    Args:
        delimiter: where the fields do not say another.
    """
    after: int | None = 0
    while after is not None:
        after = yield from _rows_after(path, after, fields, delimiter)


def check_header(path: str, fields: Fields, delimiter: str) -> None:
    """Raises UserError if the first record lacks a field that is asked for."""
    with _open(path) as file:
        _header(path, _Records(file, fields, delimiter), fields)


class _Records:
    """The records of a CSV file, and the lines that they are read from."""

    def __init__(self, file: io.TextIOBase, fields: Fields, delimiter: str) -> None:
        csv.field_size_limit(FIELD_LIMIT)
        self.delimiter = fields.delimiter or delimiter
        limit = 2 * fields.max_characters + OTHER_FIELDS
        self.lines = _Lines(file, limit, '"' if fields.quotes else "")
        self.records = csv.reader(
            self.lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if fields.quotes else csv.QUOTE_NONE,
        )


def _open(path: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        # Invalid bytes become lone surrogates, found in the one field that matters.
        open_input(path),
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
    )


def _header(path: str, opened: _Records, fields: Fields) -> list[str]:
    try:
        header = next(opened.records, [])
    except _RecordTooLongError:
        header = []
    if opened.lines.ended and header:
        raise UserError(f"{path}: its first record opens a quote that is never closed")
    check_fields(path, fields, header, _other_delimiter(header, opened.delimiter, fields))
    return header


def _other_delimiter(header: list[str], used: str, fields: Fields) -> str:
    """What to say where another delimiter would find the fields that are asked for."""
    joined = used.join(header)
    for delimiter, name in DELIMITERS.items():
        if delimiter != used and set(fields.all_fields) <= set(joined.split(delimiter)):
            option = {TAB: "tab"}.get(delimiter, delimiter)
            return f"; {name} seems to separate its columns: --delimiter '{option}'"
    return ""


def _rows_after(
    path: str, skipped: int, fields: Fields, delimiter: str
) -> Generator[Row, None, int | None]:
    """The rows after this many lines; returns the line to go on after, or None at the end."""
    with _open(path) as file:
        opened = _Records(file, fields, delimiter)
        lines = opened.lines
        header = _header(path, opened, fields)
        texts = [header.index(name) for name in fields.text_fields]
        label = None if fields.label is None else header.index(fields.label)
        if skipped:
            lines.skip(skipped - lines.number)
        while True:
            lines.begin_record()
            try:
                record = next(opened.records, None)
                if record is None:
                    return None
                row = _row(record, texts, label, fields)
            except _RecordTooLongError:
                row = Reject.TOO_LONG
            # A record is whole when its last line is read; the reader asks for one more only
            # within quotes.
            if lines.ended:
                yield Reject.UNCLOSED_QUOTE
                return lines.first + 1
            yield row


def _row(record: list[str], texts: list[int], label: int | None, fields: Fields) -> Row:
    if max(texts) >= len(record):
        return Reject.MISSING
    labels = record[label : label + 1] if label is not None else []
    return make_row([record[text] for text in texts], labels[0] if labels else None, fields)
