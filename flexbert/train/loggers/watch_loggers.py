"""Where ``flexbert watch`` records what checkpoints come to: wherever the run records its own.

What it writes stands beside what the training writes, which may go on meanwhile: event files in a
folder of their own, and a run of its own on Weights & Biases, in the group of the training's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import yaml

from flexbert.config.plain_values import as_dict
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import decode_resolved
from flexbert.config.training import SuiteEvaluationConfig
from flexbert.errors import UserError
from flexbert.task_metrics_file import TaskMetrics, logged
from flexbert.train.run_folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from flexbert.train.loggers.wandb_log import WandbLog

TENSORBOARD = "watch"
_FLUSH_SECONDS = 10


class WatchLoggers:
    """What is open, until its ``with`` block ends.

    Attributes:
        lines: where each is to be seen, and warnings.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._tensorboard: SummaryWriter | None = None
        self._wandb: WandbLog | None = None

    @classmethod
    def open(cls, run: Path, name: str, config: SuiteEvaluationConfig) -> WatchLoggers:
        """Open what the run's recipe asks for; nothing where it cannot be read, with a warning.

        Args:
            name: of the suite.

        Raises:
            UserError: if the environment has an unknown WANDB_MODE.
        """
        opened = cls()
        try:
            recipe = _recipe(run)
        except UserError as error:
            opened.lines.append(f"warning: {error}; what is measured stands in tasks.jsonl alone")
            return opened
        if recipe.logging.tensorboard:
            opened._open_tensorboard(RunFolder(run).tensorboard / TENSORBOARD)
        if recipe.logging.wandb is not None:
            opened._open_wandb(recipe, RunFolder(run), {"suite": name, "mode": config.mode})
        return opened

    def log(self, step: int, measured: Sequence[TaskMetrics]) -> None:
        """Record what a checkpoint came to, at its step of the run."""
        metrics = logged(measured)
        if self._tensorboard is not None:
            for name, value in metrics.items():
                self._tensorboard.add_scalar(name, value, global_step=step)
            self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log_metrics(metrics, step=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish(0 if kind is None else 1)

    def _open_tensorboard(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._tensorboard = SummaryWriter(log_dir=str(folder), flush_secs=_FLUSH_SECONDS)
        self.lines.append(f"TensorBoard: {folder}")

    def _open_wandb(self, recipe: Recipe, folder: RunFolder, watched: Mapping[str, str]) -> None:
        # wandb and Composer take seconds to import.
        from flexbert.train.loggers.wandb_log import choose, open_wandb, where

        assert recipe.logging.wandb is not None, "it is asked for"
        choice = choose(recipe.logging.wandb, os.environ, folder.path)
        if choice.mode == "disabled":
            return
        if choice.mode == "online":
            # Whoever watches may be on a machine without a key, and cannot change the recipe.
            choice = replace(choice, mode="online_or_offline")
        own_id = "-".join([folder.wandb_id(), "watch", *watched.values()])
        self._wandb, warnings = open_wandb(
            replace(recipe, run_name=f"{recipe.run_name}-watch"),
            # An id of the environment is the training's.
            replace(choice, id=None),
            {"watched": recipe.run_name, **watched},
            own_id,
        )
        self.lines += [*warnings, f"W&B: {where(self._wandb)}"]


def _recipe(run: Path) -> Recipe:
    """The first stage's: how a run logs is the same in all.

    Raises:
        UserError: if there is none that this version knows.
    """
    file = RunFolder(run).config
    try:
        resolved: Mapping[str, Any] = as_dict(yaml.safe_load(file.read_text()))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    try:
        return next(iter(decode_resolved(resolved).values()))
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
