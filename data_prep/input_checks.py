"""What can be known of inputs before the first document is tokenized: their columns.

A file of columns without those that are asked for is refused. A file of JSON lines has no header;
where its first lines lack the field, that is said, and reading goes on: later lines may have it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from data_prep.columns import arrow_batches, check_schema, open_parquet
from data_prep.comma_separated import check_header
from data_prep.compression import DamagedFileError, open_input
from data_prep.field_paths import ABSENT, asked_fields, look_up, own_option, record_fields
from data_prep.formats import ARROW, CSV, DATASET, HTML, JSONL, PARQUET, TSV
from data_prep.html_text import require_extractor
from data_prep.hub_datasets import check_dataset
from data_prep.readers import DELIMITER, UTF8_BOM, parse_line, refuse_array
from data_prep.rows import Fields
from data_prep.sources import InputFile, Inputs
from flexbert.errors import UserError, did_you_mean, shown

FIRST_LINES = 100
LINE_BYTES = 1 << 20
MOST_NOTES = 5
MOST_NAMES = 12


class Doubt(NamedTuple):
    """What makes one doubt that a file has the fields.

    Attributes:
        whole: whether all of the file has been looked at, so that it is certain.
    """

    text: str
    whole: bool


def check_inputs(inputs: Inputs, fields: Fields) -> None:
    """Look at the header or schema of every file, and the first lines of JSON lines.

    Args:
        fields: what to take of a row where an input does not say it itself.

    Raises:
        UserError: if a file cannot have the fields, naming those that it has, or is HTML and there
            is nothing to read it with; or if no file has a row with them.
    """
    doubts = []
    for file in inputs.files:
        how = file.fields or fields
        if file.format == HTML or how.html:
            require_extractor(file.path)
        if (doubt := _check(file, how)) is not None:
            doubts.append(doubt)
    if len(doubts) == len(inputs.files) and all(doubt.whole for doubt in doubts):
        raise UserError(f"the inputs hold no usable document: {doubts[0].text}")
    for doubt in doubts[:MOST_NOTES]:
        print(f"warning: {shown(doubt.text)}", file=sys.stderr)
    if len(doubts) > MOST_NOTES:
        print(f"warning: so it is with {len(doubts) - MOST_NOTES} more files", file=sys.stderr)


def _check(file: InputFile, how: Fields) -> Doubt | None:
    if file.format not in CHECKS:
        return None
    try:
        return CHECKS[file.format](file, how)
    except DamagedFileError:
        return None  # what of it can be read is for the reading to say
    except OSError as error:
        raise UserError(f"{file.path}: cannot be read ({error.strerror or error})") from error


def _check_csv(file: InputFile, how: Fields) -> Doubt | None:
    check_header(file.path, how, DELIMITER[file.format])
    return None


def _check_parquet(file: InputFile, how: Fields) -> Doubt | None:
    check_schema(file.path, how, open_parquet(file.path).schema_arrow)
    return None


def _check_arrow(file: InputFile, how: Fields) -> Doubt | None:
    for batch in itertools.islice(arrow_batches(file.path), 1):
        check_schema(file.path, how, batch.schema)
    return None


def _check_dataset(file: InputFile, how: Fields) -> Doubt | None:
    check_dataset(file.path, how)
    return None


def _check_json_lines(file: InputFile, how: Fields) -> Doubt | None:
    """A doubt if none of the first lines has a field of the text."""
    records = []
    whole = False
    with open_input(file.path) as opened:
        for number in range(FIRST_LINES):
            read = opened.readline(LINE_BYTES)
            line = read.removeprefix(UTF8_BOM)
            if number == 0:
                refuse_array(file.path, line)
            record = parse_line(line)
            if isinstance(record, dict):
                records.append(record)
            whole = not read
            if whole or len(read) == LINE_BYTES:
                break
    for name, option in asked_fields(how):
        absent = all(look_up(one, name) is ABSENT for one in records)
        if records and absent and name in how.text_fields:
            names = dict.fromkeys(name for one in records for name in record_fields(one))
            known = did_you_mean(name, list(names)[:MOST_NAMES])
            text = (
                f"{file.path}: none of its {'first ' * (not whole)}{len(records)} rows has the "
                f"field {name!r} ({option}, or {own_option(option)}); {known}"
            )
            return Doubt(text, whole)
    return None


CHECKS: Mapping[str, Callable[[InputFile, Fields], Doubt | None]] = {
    CSV: _check_csv,
    TSV: _check_csv,
    PARQUET: _check_parquet,
    ARROW: _check_arrow,
    DATASET: _check_dataset,
    JSONL: _check_json_lines,
}
