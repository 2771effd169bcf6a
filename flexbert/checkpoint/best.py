"""Which checkpoints of a run are the best by what its evaluations measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from flexbert.checkpoint.checkpoint_names import checkpoint_step, list_checkpoints
from flexbert.errors import UserError, did_you_mean
from flexbert.metrics_file import Record, read_metrics

DEFAULT_METRIC = "eval_loss"


def best_and_last(
    run_folder: Path, count: int, metric: str, stage: str | None
) -> dict[Path, float]:
    """The best checkpoints of a stage, and its last, which does not count among them.

    So the final ModernBERT-base was made: of the 3 best of its decay and the last one (Warner et
    al. 2024). Eligible is what was evaluated at its very step.

    Args:
        count: how many besides the last.
        metric: ``eval_loss``, ``eval_accuracy`` or ``eval_losses.SOURCE``: a loss is better if
            smaller, an accuracy if larger.
        stage: that of the newest checkpoint if None.

    Returns:
        Path to value, oldest first.

    Raises:
        UserError: if there are too few, or no such metric or stage.
    """
    if count < 1:
        raise UserError(f"--best: expected at least 1, got {count}")
    evaluations = read_metrics(run_folder, "eval")
    known = {name for record in evaluations for name in record.numbers if _is_metric(name)}
    if metric not in known:
        raise UserError(f"{run_folder}: unknown metric {metric!r}; {did_you_mean(metric, known)}")
    checkpoints = {checkpoint_step(p): p for p in list_checkpoints(run_folder / "checkpoints")}
    if stage is None:
        stage = _newest_stage(run_folder, checkpoints, evaluations)
    stages = {record.stage for record in evaluations}
    if stage not in stages:
        raise UserError(f"{run_folder}: unknown stage {stage!r}; {did_you_mean(stage, stages)}")
    eligible = {
        checkpoints[record.step]: record.numbers[metric]
        for record in evaluations
        if record.stage == stage and record.step in checkpoints and metric in record.numbers
    }
    if len(eligible) <= count:
        raise UserError(
            f"{run_folder}: {metric} was evaluated at the step of {len(eligible)} of stage "
            f"{stage}'s checkpoints; the best {count} and the last one are {count + 1}. "
            "Evaluations and checkpoints fall on the same steps where one interval is a multiple "
            "of the other"
        )
    *earlier, last = eligible
    sign = 1 if _is_loss(metric) else -1

    def rank(path: Path) -> tuple[bool, float]:
        return math.isnan(eligible[path]), sign * eligible[path]

    chosen = {*sorted(earlier, key=rank)[:count], last}
    return {path: value for path, value in eligible.items() if path in chosen}


def _newest_stage(
    run_folder: Path, checkpoints: Mapping[int, Path], evaluations: Sequence[Record]
) -> str:
    if not checkpoints:
        raise UserError(f"{run_folder}: no checkpoint in it")
    newest = max(checkpoints)
    for record in evaluations:
        if record.step == newest:
            return record.stage
    stages = ", ".join(dict.fromkeys(record.stage for record in evaluations))
    raise UserError(
        f"{checkpoints[newest]}: was not evaluated, so that its stage is not known; give --stage "
        f"(evaluated: {stages})"
    )


def _is_metric(name: str) -> bool:
    """Whether it is a loss or an accuracy, of all sources or of one."""
    return _is_loss(name) or "accuracy" in name.partition(".")[0]


def _is_loss(name: str) -> bool:
    # Not to be told by a source's name.
    return "loss" in name.partition(".")[0]
