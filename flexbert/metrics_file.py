"""What a run recorded: its ``metrics.jsonl``, one object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.tree import flatten
from flexbert.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was measured at one point of a run.

    Attributes:
        event: ``train`` or ``eval``.
        step: updates of the whole run.
        tokens: real tokens of the whole run.
        stage_tokens: real tokens of the stage.
        numbers: all that was measured, by dotted name: ``loss``, ``lr``, ``eval_losses.SOURCE``.
    """

    event: str
    stage: str
    step: int
    tokens: int
    stage_tokens: int
    numbers: Mapping[str, float]

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Record:
        """Read one line's object."""
        header = {key: plain[key] for key in ("event", "stage", "step", "tokens", "stage_tokens")}
        numbers = {
            name: value
            for name, value in flatten(plain).items()
            if name not in header and isinstance(value, int | float)
        }
        return cls(**header, numbers=numbers)


def read_metrics(run_folder: Path, event: str | None = None) -> list[Record]:
    """The records of a run, oldest first.

    Args:
        event: ``train`` or ``eval`` for these alone.

    Raises:
        UserError: if nothing is recorded, or a line is not a record.
    """
    file = run_folder / "metrics.jsonl"
    if not file.is_file():
        raise UserError(
            f"{run_folder}: no metrics.jsonl there; give the folder of a run, runs/NAME"
        )
    records = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            records.append(Record.read(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}:{number}: not a record") from None
    if not records:
        raise UserError(f"{file}: nothing is recorded yet")
    return [record for record in records if event in (None, record.event)]
