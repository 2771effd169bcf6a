"""What a run recorded: its ``metrics.jsonl``, one object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flexbert.errors import UserError

Record = dict[str, Any]


def read_metrics(run_folder: Path) -> list[Record]:
    """The records of a run, oldest first.

    Raises:
        UserError: if there are none, or a line is not one.
    """
    file = run_folder / "metrics.jsonl"
    if not file.is_file():
        raise UserError(
            f"{run_folder}: no metrics.jsonl there; give the folder of a run, runs/NAME"
        )
    records = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise UserError(f"{file}:{number}: not a record") from None
    if not records:
        raise UserError(f"{file}: nothing is recorded yet")
    return records
