"""A metric of a run by the name that a user gives, at each step that it was measured at.

The run's own evaluations are named ``eval_loss``, ``eval_accuracy``, ``eval_losses.SOURCE`` and
``eval_accuracies.SOURCE``; a task's metrics ``TASK.METRIC``, and where that is of several suites or
modes ``SUITE/TASK.METRIC``, ``TASK.METRIC@MODE`` or ``SUITE/TASK.METRIC@MODE``.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flexbert.config.by_metric import is_own_metric
from flexbert.errors import UserError, did_you_mean
from flexbert.metrics_file import Record
from flexbert.task_metrics_file import TaskMetrics

# Of any other metric more is better: accuracies, F1, correlations.
_LOWER_IS_BETTER = {"loss", "losses", "nll", "perplexity", "error", "mse", "rmse", "mae"}


@dataclass(frozen=True, kw_only=True)
class RunMetric:
    """
    Attributes:
        name: as the user gave it.
        by_step: updates of the whole run to the value; nan where it was no finite number.
    """

    name: str
    lower_is_better: bool
    by_step: Mapping[int, float]

    def is_better(self, value: float, other: float, by_more_than: float = 0.0) -> bool:
        """Whether one value is better than another; nan is better than none."""
        return (other - value if self.lower_is_better else value - other) > by_more_than

    def best_steps(self, steps: Sequence[int], count: int) -> list[int]:
        """The best of these steps that have a number, best first; of equal ones the earlier."""
        sign = 1 if self.lower_is_better else -1
        known = sorted(step for step in steps if self.is_number(step))
        return sorted(known, key=lambda step: sign * self.by_step[step])[:count]

    def is_number(self, step: int) -> bool:
        """Whether it is known at this step, and finite."""
        return math.isfinite(self.by_step.get(step, math.nan))


class UnknownMetricError(UserError):
    """Nothing of this name was measured, or not yet."""


def find_metric(
    name: str, evaluations: Sequence[Record], tasks: Sequence[TaskMetrics], where: Path
) -> RunMetric:
    """The metric of this name.

    Args:
        where: what an error names.

    Raises:
        UnknownMetricError: if there is none of this name.
        UserError: if it may be any of several.
    """
    if name in (own := _own(evaluations)):
        return _metric(name, name.partition(".")[0], own[name])
    found = _of_tasks(tasks)
    names = _names(found)
    meant = [key for key in found if name in key.names]
    if len(meant) > 1:
        listed = ", ".join(sorted(names[key] for key in meant))
        raise UserError(f"{where}: {name!r} is the metric of several; give one of: {listed}")
    if not meant:
        known = {*own, *names.values()}
        raise UnknownMetricError(f"{where}: unknown metric {name!r}; {did_you_mean(name, known)}")
    (key,) = meant
    return _metric(name, key.metric, found[key])


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better: of losses and errors, by a word of its name."""
    return not _LOWER_IS_BETTER.isdisjoint(re.split(r"[\W_]+", metric.lower()))


class _TaskMetric(NamedTuple):
    """Whose values are one series."""

    suite: str
    task: str
    mode: str
    metric: str

    @property
    def names(self) -> tuple[str, ...]:
        """Those that a user may give, shortest first."""
        short = f"{self.task}.{self.metric}"
        long = f"{self.suite}/{short}"
        return short, long, f"{short}@{self.mode}", f"{long}@{self.mode}"


def _metric(name: str, kind: str, by_step: Mapping[int, float]) -> RunMetric:
    return RunMetric(
        name=name,
        lower_is_better=lower_is_better(kind),
        by_step=by_step,
    )


def _own(evaluations: Sequence[Record]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for record in evaluations:
        for name, value in record.numbers.items():
            if is_own_metric(name):
                found[name][record.step] = value
    return found


def _of_tasks(tasks: Sequence[TaskMetrics]) -> dict[_TaskMetric, dict[int, float]]:
    found: dict[_TaskMetric, dict[int, float]] = defaultdict(dict)
    for measured in tasks:
        for metric, value in measured.metrics.items():
            key = _TaskMetric(measured.suite, measured.task, measured.mode, metric)
            found[key][measured.step] = value
    return found


def _names(keys: Mapping[_TaskMetric, object]) -> dict[_TaskMetric, str]:
    """Of each the shortest name that is no other's."""

    def own_names(key: _TaskMetric) -> Iterator[str]:
        for name in key.names:
            if all(other is key or name not in other.names for other in keys):
                yield name

    return {key: next(own_names(key), key.names[-1]) for key in keys}
