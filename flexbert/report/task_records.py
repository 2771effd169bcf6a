"""How a run's checkpoints do at tasks, as records that are drawn like any others."""

from __future__ import annotations

from collections.abc import Sequence

from flexbert.metrics_file import Record
from flexbert.report.recorded_run import RecordedRun
from flexbert.task_metrics_file import TaskMetrics

TASK = "task"
_MODES = {"frozen": "frozen", "fine_tune": "fine-tuned"}


def task_records(run: RecordedRun) -> list[Record]:
    """What each checkpoint came to, oldest first: of every task the metric that is chosen by.

    Numbers are named ``TASK.METRIC``; with the suite or the mode behind it, where the run knows a
    task of more than one.
    """
    suites = {each.suite for each in run.tasks}
    modes = {each.mode for each in run.tasks}
    return [
        Record(
            event=TASK,
            stage=each.stage,
            step=each.step,
            tokens=each.tokens,
            stage_tokens=0,
            numbers={_name(each, len(suites) > 1, len(modes) > 1): value},
        )
        for each in run.tasks
        # The first one is what fits are chosen by.
        for value in list(each.metrics.values())[:1]
    ]


def task_names(records: Sequence[Record]) -> list[str]:
    """What stands in records, each name once."""
    return list(dict.fromkeys(name for record in records for name in record.numbers))


def _name(measured: TaskMetrics, tells_suite: bool, tells_mode: bool) -> str:
    more = [measured.suite] if tells_suite else []
    more += [_MODES.get(measured.mode, measured.mode)] if tells_mode else []
    name = f"{measured.task}.{next(iter(measured.metrics))}"
    return f"{name} ({', '.join(more)})" if more else name
