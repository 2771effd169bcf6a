"""What a recipe decides by a metric: which checkpoints stay, and when a stage ends early."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from flexbert.config.fields import COMPUTATION, OPERATIONAL, Node, key
from flexbert.errors import ConfigError, did_you_mean

_OWN = re.compile(r"eval_(loss|accuracy|(losses|accuracies)\..+)")
_EXAMPLES = ("eval_loss", "eval_accuracy", "eval_losses.SOURCE", "eval_accuracies.SOURCE")


def is_own_metric(name: str) -> bool:
    """Whether the run's own evaluations measure it: a loss or an accuracy, whole or of a source."""
    # Not to be told by a source's name.
    return _OWN.fullmatch(name) is not None


def source_of(name: str) -> str | None:
    """The source that one of the run's own metrics is of; None where it is of all together."""
    return name.partition(".")[2] or None if is_own_metric(name) else None


def _check(name: str) -> None:
    """Raises: ConfigError if nothing can have this name: it is no own metric, and no task's."""
    if is_own_metric(name):
        return
    task, _, metric = name.rpartition(".")
    if not task or not metric or name.startswith("eval_"):
        known = (*_EXAMPLES, "TASK.METRIC")
        raise ConfigError("metric", f"unknown metric {name!r}; {did_you_mean(name, known)}")


@dataclass(frozen=True, kw_only=True)
class KeepBestConfig(Node):
    """The best checkpoints of a stage stay, besides the newest ones.

    Of a stage at most ``count`` stay for being good. A task's metric may come late, from ``flexbert
    watch``: of the checkpoints that it is not known of yet, the newest ``patience`` wait for it. So
    no more than ``keep + count + patience`` lie there at any time, and as many more as earlier
    stages kept, the one that is being written, and the ends of stages. Evaluations come before the
    checkpoint of their update, so nothing waits for them.

    Attributes:
        metric: what is best by: ``eval_loss``, ``eval_accuracy``, ``eval_losses.SOURCE`` or a
            task's ``TASK.METRIC``. Losses and errors are better if smaller.
        count: how many; of equal ones the earlier stay.
        patience: how many wait for a task's metric.
    """

    metric: str = key(OPERATIONAL, default="eval_loss")
    count: int = key(OPERATIONAL, default=3, above=0, unit="checkpoints")
    patience: int = key(OPERATIONAL, default=4, at_least=0, unit="checkpoints")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.metric)

    @property
    def waiting(self) -> int:
        """How many wait for the metric at most."""
        return 0 if is_own_metric(self.metric) else self.patience


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig(Node):
    """When a stage ends before its duration is reached, and with which weights.

    The stage then ends as it would have at its duration: with a checkpoint, which the next stage
    goes on from. What decides are evaluations at steps of the stage, so a run that has it resumes
    with no other ``evaluation`` and no other ``checkpoints.interval``.

    Attributes:
        metric: what is to improve: ``eval_loss``, ``eval_accuracy`` or ``eval_losses.SOURCE``; or a
            task's ``TASK.METRIC`` that ``evaluation.suite`` measures while training waits. What
            ``flexbert watch`` measures comes at any time, and decides nothing.
        patience: the stage ends after so many evaluations in a row that were no improvement.
        min_delta: by how much more than this the metric must be better to be an improvement. What
            is no finite number is none.
        restore: ``best`` ends the stage, early or not, with the weights and the optimizer's state
            of its best evaluation, of equal ones the earlier; a checkpoint is saved at each new
            best one for that. null ends it with the last ones.
    """

    metric: str = key(COMPUTATION, default="eval_loss")
    patience: int = key(COMPUTATION, default=3, above=0, unit="evaluations")
    min_delta: float = key(COMPUTATION, default=0.0, at_least=0)
    restore: Literal["best"] | None = key(COMPUTATION, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.metric)

    def check(self, has_suite: bool) -> None:
        """Refuse a task's metric that nothing measures while training waits (ConfigError)."""
        if not has_suite and not is_own_metric(self.metric):
            raise ConfigError(
                "metric",
                f"{self.metric!r} is a task's: evaluation.suite measures it at steps that are "
                "known, flexbert watch at any time; give evaluation.suite, or a metric of the "
                "run's own, for instance eval_loss",
            )
