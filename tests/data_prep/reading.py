"""What tests of reading share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from data_prep.readers import Fields, Reject, Row, read_piece
from data_prep.sources import cut_pieces, find_inputs

in_one_folder = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_rows(file: Path | str, *, piece_bytes: int = 1 << 20, **fields: Any) -> list[Row]:
    """All rows of an input, read piece by piece."""
    pieces = [
        piece
        for found in find_inputs([Path(file)]).files
        for piece in cut_pieces(found, piece_bytes)
    ]
    return [row for piece in pieces for row in read_piece(piece, Fields(**fields))]


def read(file: Path | str, **options: Any) -> list[str | Reject]:
    """The texts of an input, and its bad rows."""
    rows = read_rows(file, **options)
    return [row if isinstance(row, Reject) else row.text for row in rows]


def write_csv(file: Path, rows: list[list[str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(rows)
    return file
