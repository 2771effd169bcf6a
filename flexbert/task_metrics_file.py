"""How checkpoints of a run do at tasks: the run's ``tasks.jsonl``, one object a line.

The training and ``flexbert watch`` add to it, so every writer holds a lock.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flexbert.config.encode import encode
from flexbert.config.plain_values import count, counts, dict_of, number, text, value_of
from flexbert.errors import UserError
from flexbert.files.durable import write_errors
from flexbert.files.line_file import append_line, json_line, lines_lock
from flexbert.metrics_file import Line, drop_lines_after, lines_of, number_or_nan

TASKS = "tasks.jsonl"
_EVENT = "task"


@dataclass(frozen=True, kw_only=True)
class TaskMetrics:
    """What one checkpoint of a run scored at one task of a suite.

    Attributes:
        step: updates of the whole run in the checkpoint.
        tokens: real tokens of the whole run in it.
        checkpoint: name of its file.
        mode: ``fine_tune`` or ``frozen``.
        fingerprint: of the task's rows and settings; a run knows one by a name.
        seeds: of the fits that ``metrics`` are means over.
        metrics: by name, without the task's; nan where one was no finite number.
        seconds: that it took.
    """

    stage: str
    step: int
    tokens: int
    checkpoint: str
    suite: str
    task: str
    mode: str
    fingerprint: str
    seeds: tuple[int, ...]
    metrics: Mapping[str, float]
    seconds: float

    @property
    def identity(self) -> tuple[int, str, str, str]:
        """Step, suite, task and mode: of lines that have them in common the last counts."""
        return self.step, self.suite, self.task, self.mode


def logged(measured: Iterable[TaskMetrics]) -> dict[str, float]:
    """What loggers are given of one checkpoint: ``tasks/TASK/METRIC``."""
    return {
        f"tasks/{each.task}/{name}": value
        for each in measured
        for name, value in each.metrics.items()
    }


def measured_text(measured: TaskMetrics) -> str:
    """For a line on the console, which says the step itself."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in measured.metrics.items())
    return f"{measured.task}: {metrics} ({measured.seconds:.0f} s)"


def append(run_folder: Path, measured: TaskMetrics) -> None:
    """Add a line; it is on the disk when this returns.

    Raises:
        WriteError: if the disk does not take it; no half line is left then.
    """
    file = run_folder / TASKS
    append_line(file, json_line({"event": _EVENT, **encode(measured)}))


def drop_after(run_folder: Path, step: int) -> None:
    """Forget checkpoints that a resume after update ``step`` will make again.

    Raises:
        UserError: as :func:`~flexbert.metrics_file.drop_lines_after`.
    """
    file = run_folder / TASKS
    if file.exists():
        with write_errors(file), lines_lock(file):
            drop_lines_after(file, step)


def read_task_metrics(run_folder: Path) -> list[TaskMetrics]:
    """What is known of a run's checkpoints, oldest first; nothing where there is no file.

    Of lines about the same step, suite, task and mode the last counts. A half last line is passed
    over, and others that cannot be read are with a warning.

    Raises:
        UserError: if there is a file that cannot be read.
    """
    file = run_folder / TASKS
    try:
        lines, num_bad = lines_of(file)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    measured = list(_measured(lines))
    num_bad += len(lines) - len(measured)
    if num_bad:
        print(
            f"warning: {file}: {num_bad} lines are of no task, and are passed over", file=sys.stderr
        )
    last = {each.identity: each for each in measured}
    return sorted(last.values(), key=lambda each: each.step)


def _measured(lines: list[Line]) -> Iterator[TaskMetrics]:
    for line in lines:
        with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):
            yield _read(line)


def _read(line: Line) -> TaskMetrics:
    plain = line.plain
    if plain["event"] != _EVENT:
        raise ValueError(f"event: {plain['event']!r} is not {_EVENT!r}")
    return TaskMetrics(
        stage=value_of(plain, "stage", text),
        step=line.step,
        tokens=value_of(plain, "tokens", count),
        checkpoint=value_of(plain, "checkpoint", text),
        suite=value_of(plain, "suite", text),
        task=value_of(plain, "task", text),
        mode=value_of(plain, "mode", text),
        fingerprint=value_of(plain, "fingerprint", text),
        seeds=value_of(plain, "seeds", counts),
        metrics=dict_of(plain, "metrics", number_or_nan),
        seconds=value_of(plain, "seconds", number),
    )
