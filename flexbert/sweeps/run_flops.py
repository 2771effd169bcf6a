"""How many floating-point operations a run has taken, from what it recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flexbert.errors import UserError
from flexbert.metrics_file import Record
from flexbert.report.recorded_run import RecordedRun


def run_flops(run: RecordedRun) -> Callable[[Record], float]:
    """FLOPs of the run's own updates up to a record.

    A record says how many a process did a second, and how many tokens all did: the operations of a
    token are their quotient times the processes, those of an interval the tokens times that. So
    waiting for data or evaluations does not count, nor what a resume ran again.

    Raises:
        UserError: if the records do not say.
    """
    steps, totals = [0.0], [0.0]
    tokens = _tokens_before(run)
    for record in run.records:
        speed, rate = (record.numbers.get(name, 0.0) for name in ("tokens_per_second", "tflops"))
        if record.event == "train" and speed > 0 and rate > 0:
            operations = rate * 1e12 * _processes(run, record) / speed
            steps.append(float(record.step))
            totals.append(totals[-1] + operations * (record.tokens - tokens))
            tokens = record.tokens
    if len(steps) == 1:
        raise UserError(f"{run.folder}: its records do not say what updates cost")
    steps[0] = float(run.after_step)
    # An evaluation at the end may come after the last record of training.
    slope = totals[-1] / max(steps[-1] - steps[0], 1.0)

    def at(record: Record) -> float:
        beyond = max(0.0, record.step - steps[-1])
        return float(np.interp(record.step, steps, totals)) + beyond * slope

    return at


def _tokens_before(run: RecordedRun) -> float:
    """Of another run that this one goes on from, as far as its first record tells."""
    first = run.records[0]
    return first.tokens * run.after_step / first.step if first.step else 0.0


def _processes(run: RecordedRun, record: Record) -> int:
    """Of the launch that a record is of."""
    launches = [each for each in run.manifest.launches if each.after_step < record.step]
    return launches[-1].processes if launches else 1
