"""What the runs of a sweep came to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.errors import UserError, did_you_mean
from flexbert.metrics_file import Record, read_metrics
from flexbert.sweeps.runs import SweepRun
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics

# Of what is recorded again and again while a run trains, which number stands for the run.
_OF_TRAINING: dict[str, Callable[[Sequence[float]], float]] = {
    "tokens_per_second": statistics.median,
    "mfu": statistics.median,
    "peak_memory": max,
}
_LOWER = ("loss", "perplexity", "mse", "memory", "seconds")


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run came to.

    Attributes:
        tokens, updates: that it was trained on, and for.
        values: by the name of a measure; nan where it is no finite number.
    """

    run: SweepRun
    tokens: int
    updates: int
    values: dict[str, float]


def read_outcome(run: SweepRun, measures: Sequence[str]) -> RunOutcome:
    """What a finished run has recorded.

    Raises:
        UserError: if it has recorded nothing, or a measure is none that it has.
    """
    records = read_metrics(run.folder)
    tasks = read_task_metrics(run.folder)
    last = records[-1]
    return RunOutcome(
        run=run,
        tokens=last.tokens,
        updates=last.step,
        values={measure: _value(run.folder, measure, records, tasks) for measure in measures},
    )


def more_is_better(measure: str) -> bool:
    """Whether a larger number is the better one."""
    return not any(part in measure.rpartition(".")[2] for part in _LOWER)


def _value(
    folder: Path, measure: str, records: Sequence[Record], tasks: Sequence[TaskMetrics]
) -> float:
    by_task = {
        f"{each.task}.{name}": value for each in tasks for name, value in each.metrics.items()
    }
    if measure in by_task:
        return by_task[measure]
    found = [record.numbers[measure] for record in records if measure in record.numbers]
    if not found:
        known = {name for record in records for name in record.numbers}
        raise UserError(
            f"measure {measure}: {folder} has none; {did_you_mean(measure, {*known, *by_task})}"
        )
    finite = [value for value in found if math.isfinite(value)]
    if measure in _OF_TRAINING:
        return _OF_TRAINING[measure](finite) if finite else math.nan
    return found[-1]
