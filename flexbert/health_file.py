"""What went wrong with a run's numbers: its ``health.jsonl``, one object a line.

It is added to and never shortened: what was rolled back stays in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.plain_values import text, value_of
from flexbert.metrics_file import lines_of

HEALTH = "health.jsonl"


@dataclass(frozen=True, kw_only=True)
class HealthEvent:
    """
    Attributes:
        event: ``skipped``, ``spike`` or ``rolled_back``.
        step: the update, of the whole run.
        values: all else that was noted.
    """

    event: str
    stage: str
    step: int
    values: Mapping[str, Any]


def read_health(run_folder: Path) -> list[HealthEvent]:
    """The events of a run, oldest first; none where nothing went wrong, or nothing can be read."""
    try:
        lines, _ = lines_of(run_folder / HEALTH)
    except OSError:
        return []
    events = []
    for line in lines:
        values = {
            key: value for key, value in line.plain.items() if key not in ("event", "stage", "step")
        }
        with contextlib.suppress(KeyError, TypeError, ValueError):
            events.append(
                HealthEvent(
                    event=value_of(line.plain, "event", text),
                    stage=value_of(line.plain, "stage", text),
                    step=line.step,
                    values=values,
                )
            )
    return events
