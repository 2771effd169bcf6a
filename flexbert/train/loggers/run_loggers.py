"""The loggers of a launch, on its first process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from composer.loggers import LoggerDestination

from flexbert.config.recipe import Recipe
from flexbert.train.loggers.tensorboard_log import TensorBoardLog
from flexbert.train.run_folder import RunFolder


class RunLoggers:
    """Opened by a launch and closed with it; stages take over what is open.

    Attributes:
        exit_code: of the launch, once it is known.
        entries: where each is to be seen, for the header.
        warnings: to be printed.
    """

    def __init__(self) -> None:
        self.exit_code = 1
        self.entries: dict[str, str] = {}
        self.warnings: Sequence[str] = ()
        self._tensorboard: TensorBoardLog | None = None
        self._wandb: Any = None

    @classmethod
    def open(
        cls, recipe: Recipe, folder: RunFolder, resolved: Mapping[str, Any], after_step: int
    ) -> RunLoggers:
        """Open what the recipe asks for.

        Args:
            resolved: the resolved recipe of all stages, as it is stored.
            after_step: updates of the run before this launch.

        Raises:
            UserError: if Weights & Biases cannot be used as it is asked for.
        """
        opened = cls()
        if recipe.logging.wandb is not None:
            opened._open_wandb(recipe, folder, resolved)
        if recipe.logging.tensorboard:
            opened._tensorboard = TensorBoardLog(folder.tensorboard, after_step, resolved)
            opened.entries["TensorBoard"] = str(folder.tensorboard)
        return opened

    def _open_wandb(self, recipe: Recipe, folder: RunFolder, resolved: Mapping[str, Any]) -> None:
        # wandb takes a second to import.
        from flexbert.train.loggers.wandb_log import choose, open_wandb, where

        assert recipe.logging.wandb is not None, "it is asked for"
        choice = choose(recipe.logging.wandb, os.environ, folder.path)
        if choice.mode == "disabled":
            self.entries["W&B"] = "disabled by the environment"
            return
        self._wandb, self.warnings = open_wandb(recipe, choice, resolved, folder.wandb_id())
        self.entries["W&B"] = where(self._wandb)

    @property
    def destinations(self) -> list[LoggerDestination]:
        """For Composer's trainer."""
        return [logger for logger in (self._wandb, self._tensorboard) if logger is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._wandb is not None:
            self._wandb.finish(self.exit_code)
        if self._tensorboard is not None:
            self._tensorboard.finish()
