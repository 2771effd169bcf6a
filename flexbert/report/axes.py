"""What runs are drawn over: tokens, updates or time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from flexbert.errors import UserError
from flexbert.metrics_file import Record
from flexbert.report.recorded_run import RecordedRun

AxisName = Literal["tokens", "updates", "time"]
AXES: tuple[AxisName, ...] = get_args(AxisName)
SECONDS = "seconds"
# Of time, the largest that a run has at least twice.
UNITS = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


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


@dataclass(frozen=True, kw_only=True)
class SharedAxis:
    """The axis of one picture.

    Attributes:
        title: what it counts.
        is_time: whether it has a unit of time, and not a count.
        places: of each run.
    """

    title: str
    is_time: bool
    places: Sequence[RunAxis]


def shared_axis(runs: Sequence[RecordedRun], name: AxisName) -> SharedAxis:
    """The places of several runs on one axis.

    Raises:
        UserError: if it is to be time, and the records of a run have none.
    """
    if name != "time":
        places = [_run_axis(run, _PLACES[name], lambda _: _PLACES[name]) for run in runs]
        return SharedAxis(title=name, is_time=False, places=places)
    longest = max(_seconds(run)(run.records[-1]) for run in runs)
    unit = next((unit for unit, size in UNITS.items() if longest >= 2 * size), "seconds")

    def scaled(at: Callable[[Record], float]) -> Callable[[Record], float]:
        return lambda record: at(record) / UNITS[unit]

    places = [
        _run_axis(run, scaled(_seconds(run)), lambda records: scaled(_seconds_of(records)))
        for run in runs
    ]
    return SharedAxis(title=f"{unit} of training", is_time=True, places=places)


def _run_axis(
    run: RecordedRun,
    at: Callable[[Record], float],
    of_parent: Callable[[Sequence[Record]], Callable[[Record], float]],
) -> RunAxis:
    parent = run.parent
    if parent is None:
        return RunAxis(at=at, begin=0.0, parent_at=at)
    before = of_parent(parent.records)
    end = before(parent.records[-1])
    # Of a run that goes on with the other's clock the first record comes after the other's last.
    if parent.key == "start_from" and at(run.records[0]) >= end:
        return RunAxis(at=at, begin=end, parent_at=before)
    # Another clock: the parent ends where the run begins.
    return RunAxis(at=at, begin=0.0, parent_at=lambda record: before(record) - end)


def _tokens(record: Record) -> float:
    return float(record.tokens)


def _updates(record: Record) -> float:
    return float(record.step)


_PLACES: dict[AxisName, Callable[[Record], float]] = {"tokens": _tokens, "updates": _updates}


def _seconds(run: RecordedRun) -> Callable[[Record], float]:
    if not any(SECONDS in record.numbers for record in run.records):
        raise UserError(
            f"{run.folder}: its records have no time, as it was trained by an older version; "
            "draw it over tokens or updates"
        )
    return _seconds_of(run.records)


def _seconds_of(records: Sequence[Record]) -> Callable[[Record], float]:
    """Seconds of training by update; what has no time of its own lies between its neighbours.

    A clock that began again with a launch goes on from where it stood.
    """
    timed = [record for record in records if SECONDS in record.numbers]
    seconds = np.array([record.numbers[SECONDS] for record in timed] or [0.0])
    restarts = np.diff(seconds, prepend=0.0)
    lost = np.where(restarts < 0, np.concatenate([[0.0], seconds[:-1]]), 0.0)
    trained = seconds + np.cumsum(lost)
    steps = np.array([record.step for record in timed] or [0])
    return lambda record: float(np.interp(record.step, steps, trained))
