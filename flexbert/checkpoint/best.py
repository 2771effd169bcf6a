"""Which checkpoints of a run are the best by what was measured of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.checkpoint.checkpoint_names import checkpoint_step, list_checkpoints
from flexbert.checkpoint.run_metric import find_metric
from flexbert.errors import UserError, did_you_mean
from flexbert.metrics_file import Record, read_metrics, restored_steps
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics

DEFAULT_METRIC = "eval_loss"
_LISTED = 8


@dataclass(frozen=True, kw_only=True)
class BestAndLast:
    """
    Attributes:
        values: path to value, oldest first. The last is the stage's last, and nan where nothing is
            known of it.
        passed_over: checkpoints before it that nothing is known of by this metric, and newer ones
            of which no record says whether they are the stage's.
    """

    values: Mapping[Path, float]
    passed_over: tuple[Path, ...]


def best_and_last(run_folder: Path, count: int, metric: str, stage: str | None) -> BestAndLast:
    """The best checkpoints of a stage, and its last, which does not count among them.

    So the final ModernBERT-base was made: of the 3 best of its decay and the last one (Warner et
    al. 2024). Among the best is what was measured at its very step, and as a finite number; of
    equal ones the earlier. A checkpoint in which a stage's best weights were restored is passed
    over: it is a second one of them.

    Args:
        count: how many besides the last.
        metric: see :mod:`flexbert.checkpoint.run_metric`: a loss or an error is better if smaller,
            anything else if larger.
        stage: that of the newest checkpoint if None.

    Raises:
        UserError: if there are too few, or no such metric or stage.
    """
    if count < 1:
        raise UserError(f"--best: expected at least 1, got {count}")
    records, tasks = read_metrics(run_folder), read_task_metrics(run_folder)
    evaluations = [record for record in records if record.event == "eval"]
    measured = find_metric(metric, evaluations, tasks, run_folder)
    checkpoints = {checkpoint_step(p): p for p in list_checkpoints(run_folder / "checkpoints")}
    if not checkpoints:
        raise UserError(f"{run_folder}: no checkpoint in it")
    stages = stages_of_steps(list(checkpoints), [*records, *tasks])
    if stage is None:
        stage = _newest_stage(checkpoints, stages, records)
    known = {record.stage for record in records}
    if stage not in known:
        raise UserError(f"{run_folder}: unknown stage {stage!r}; {did_you_mean(stage, known)}")
    of_stage = [step for step in checkpoints if stages[step] == stage]
    restored = restored_steps(records)
    steps = [step for step in of_stage if step not in restored]
    best = measured.best_steps(steps[:-1], count)
    unknown = {step for step in steps[:-1] if not measured.is_number(step)}
    passed_over = [step for step in checkpoints if step in unknown or stages[step] is None]
    if len(best) < count:
        raise UserError(
            f"{run_folder}: {metric} was measured at the step of {len(best)} of stage {stage}'s "
            f"checkpoints before its last{_not_of([checkpoints[step] for step in passed_over])}; "
            f"--best {count} needs {count}, and the last one besides. {_ADVICE}"
        )
    return BestAndLast(
        values={
            checkpoints[step]: measured.by_step.get(step, math.nan)
            for step in (*sorted(best), steps[-1])
        },
        passed_over=tuple(checkpoints[step] for step in passed_over),
    )


_ADVICE = (
    "Evaluations and checkpoints fall on the same steps where one interval is a multiple of the "
    "other"
)


def names_text(paths: Sequence[Path]) -> str:
    """Names of checkpoints for a message, the first few of many."""
    listed = ", ".join(path.name for path in paths[:_LISTED])
    more = len(paths) - _LISTED
    return f"{listed} and {more:,} more" if more > 0 else listed


def _not_of(passed_over: Sequence[Path]) -> str:
    return f" (not of {names_text(passed_over)})" if passed_over else ""


def stages_of_steps(
    steps: Sequence[int], records: Sequence[Record | TaskMetrics]
) -> dict[int, str | None]:
    """The stage that each step is of: that of the first record at it or later; None after all."""
    ordered = sorted(records, key=lambda record: record.step)
    ends = [record.step for record in ordered]
    found: dict[int, str | None] = {}
    for step in steps:
        index = bisect_left(ends, step)
        found[step] = ordered[index].stage if index < len(ordered) else None
    return found


def _newest_stage(
    checkpoints: Mapping[int, Path], stages: Mapping[int, str | None], records: Sequence[Record]
) -> str:
    newest = max(checkpoints)
    if (stage := stages[newest]) is not None:
        return stage
    known = ", ".join(dict.fromkeys(record.stage for record in records))
    raise UserError(
        f"{checkpoints[newest]}: nothing is recorded at its step or later, so that its stage is "
        f"not known; give --stage (recorded: {known})"
    )
