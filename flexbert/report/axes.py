"""What runs are drawn over: tokens, updates or hours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from flexbert.errors import UserError
from flexbert.metrics_file import Record
from flexbert.report.recorded_run import RecordedRun

AxisName = Literal["tokens", "updates", "hours"]
AXES: tuple[AxisName, ...] = get_args(AxisName)
SECONDS = "seconds"


@dataclass(frozen=True, kw_only=True)
class RunAxis:
    """Where on the axis a run's records stand.

    Attributes:
        at: the place of a record.
        begin: of the run: 0, but where it goes on with another run's clock.
        parent_at: the place of a record of the run before.
    """

    at: Callable[[Record], float]
    begin: float
    parent_at: Callable[[Record], float]


def run_axis(run: RecordedRun, name: AxisName) -> RunAxis:
    """A run's places on an axis.

    Raises:
        UserError: if it is to be drawn over hours and its records have no time.
    """
    at = _hours(run) if name == "hours" else _PLACES[name]
    parent = run.parent
    if parent is None:
        return RunAxis(at=at, begin=0.0, parent_at=at)
    before = _hours_of(parent.records) if name == "hours" else _PLACES[name]
    end = before(parent.records[-1])
    if parent.key == "start_from" and name != "hours":
        return RunAxis(at=at, begin=end, parent_at=before)
    # Another clock: the parent ends where the run begins.
    return RunAxis(at=at, begin=0.0, parent_at=lambda record: before(record) - end)


def _tokens(record: Record) -> float:
    return float(record.tokens)


def _updates(record: Record) -> float:
    return float(record.step)


_PLACES: dict[AxisName, Callable[[Record], float]] = {"tokens": _tokens, "updates": _updates}


def _hours(run: RecordedRun) -> Callable[[Record], float]:
    if not any(SECONDS in record.numbers for record in run.records):
        raise UserError(
            f"{run.folder}: its records have no time, as it was trained by an older version; "
            "draw it over tokens or updates"
        )
    return _hours_of(run.records)


def _hours_of(records: Sequence[Record]) -> Callable[[Record], float]:
    """Hours of training by update; what has no time of its own lies between its neighbours.

    A clock that began again with a launch goes on from where it stood.
    """
    timed = [record for record in records if SECONDS in record.numbers]
    seconds = np.array([record.numbers[SECONDS] for record in timed] or [0.0])
    restarts = np.diff(seconds, prepend=0.0)
    lost = np.where(restarts < 0, np.concatenate([[0.0], seconds[:-1]]), 0.0)
    hours = (seconds + np.cumsum(lost)) / 3600
    steps = np.array([record.step for record in timed] or [0])
    return lambda record: float(np.interp(record.step, steps, hours))
