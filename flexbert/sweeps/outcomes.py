"""What the runs of a sweep came to."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flexbert.checkpoint.run_metric import find_metric, lower_is_better
from flexbert.config.by_metric import is_own_metric
from flexbert.errors import UserError, user_errors_at
from flexbert.manifest_file import Manifest
from flexbert.metrics_file import Record, read_metrics
from flexbert.sweeps.points import SweepPoint
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics

_MEMORY = "peak_memory"
# Of what is recorded again and again while a run trains, which number stands for the run.
_OF_TRAINING: dict[str, Callable[[Sequence[float]], float]] = {
    "tokens_per_second": statistics.median,
    "mfu": statistics.median,
    _MEMORY: max,
}
# What a run costs, and not what it comes to.
COSTS = tuple(_OF_TRAINING)


class TrainedRun(Protocol):
    """A run of a point: a sweep's, or any that has been trained."""

    @property
    def name(self) -> str: ...
    @property
    def point(self) -> SweepPoint: ...
    @property
    def seed(self) -> int: ...
    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run came to.

    Attributes:
        tokens, updates: that it was trained on, and for.
        values: by the name of a measure; nan where it is no finite number.
        unigram_entropy: of the validation split, in nats a token; None where it is not known.
    """

    run: TrainedRun
    tokens: int
    updates: int
    values: dict[str, float]
    unigram_entropy: float | None = None


def read_outcome(run: TrainedRun, measures: Sequence[str]) -> RunOutcome:
    """What a finished run has recorded.

    Raises:
        UserError: if it has recorded nothing, or a measure is none that it has.
    """
    records = read_metrics(run.folder)
    tasks = read_task_metrics(run.folder)
    values = {}
    for measure in measures:
        with user_errors_at(f"measure {measure}"):
            values[measure] = _value(run.folder, measure, records, tasks)
    last = records[-1]
    return RunOutcome(
        run=run,
        tokens=last.tokens,
        updates=last.step,
        values=values,
        unigram_entropy=_unigram_entropy(run.folder),
    )


def unfinished_state(run: TrainedRun) -> str:
    """What a run that has not ended has come to, for a note."""
    try:
        last = read_metrics(run.folder)[-1]
    except UserError:
        return "nothing recorded"
    return f"not finished, at update {last.step:,}"


def more_is_better(measure: str) -> bool:
    """Whether a larger number is the better one."""
    own = is_own_metric(measure)
    kind = measure.partition(".")[0] if own else measure.rpartition(".")[2]
    return not lower_is_better(kind) and kind != _MEMORY


def _unigram_entropy(folder: Path) -> float | None:
    # A run without a manifest has its numbers all the same.
    with contextlib.suppress(UserError):
        return Manifest.read(folder).unigram_entropy
    return None


def _value(
    folder: Path, measure: str, records: Sequence[Record], tasks: Sequence[TaskMetrics]
) -> float:
    found = [record.numbers[measure] for record in records if measure in record.numbers]
    if not found:
        by_step = find_metric(measure, records, tasks, folder).by_step
        return by_step[max(by_step)]
    finite = [value for value in found if math.isfinite(value)]
    if measure in _OF_TRAINING:
        return _OF_TRAINING[measure](finite) if finite else math.nan
    return found[-1]
