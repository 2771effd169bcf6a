"""Writing ``health.jsonl``: see :mod:`flexbert.health_file`."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from flexbert.health_file import HEALTH


class HealthLog:
    """Writes what happened, on the first process alone."""

    def __init__(self, run_folder: Path, *, is_writer: bool) -> None:
        self.file = run_folder / HEALTH
        self.is_writer = is_writer

    def note(self, event: str, message: str, **values: Any) -> None:
        """Say it on the console, and record it; a disk that is full takes nothing but the record.

        Args:
            event: ``skipped``, ``spike`` or ``rolled_back``.
        """
        if not self.is_writer:
            return
        print(f"warning: {message}", flush=True)
        with contextlib.suppress(OSError), self.file.open("a") as file:
            file.write(json.dumps(valid({"event": event, **values}), allow_nan=False) + "\n")


def valid(value: Any) -> Any:
    """Containers with numbers that JSON has: what is not finite becomes its name."""
    if isinstance(value, dict):
        return {str(key): valid(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [valid(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
