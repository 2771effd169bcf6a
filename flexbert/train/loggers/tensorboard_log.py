"""TensorBoard: event files in one folder, which is one run there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from composer import Logger, State
from composer.loggers import TensorboardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from flexbert.config.tree import flatten
from flexbert.train.loggers.composers_names import without_composers

# What a table of hyperparameters shows of each run.
_RESULTS = ("eval_loss", "eval_accuracy")
_FLUSH_SECONDS = 10


class TensorBoardLog(TensorboardLogger):
    """Composer's, kept open through all stages of a launch.

    A launch that goes on behind update N hides what an earlier one wrote of later updates, which
    will be written again. Composer's own begins a folder below for every run name, and one below
    that at every evaluation.
    """

    def __init__(self, folder: Path, after_step: int, recipe: Mapping[str, Any]) -> None:
        """
        Args:
            after_step: updates of the run before this launch.
            recipe: resolved, of all stages.
        """
        super().__init__(log_dir=str(folder))
        self._folder = folder
        self._last_step = after_step
        self.writer = self._open(after_step)
        self._describe(recipe)

    def _open(self, after_step: int) -> SummaryWriter:
        return SummaryWriter(
            log_dir=str(self._folder),
            purge_step=after_step + 1 if after_step else None,
            flush_secs=_FLUSH_SECONDS,
        )

    def _describe(self, recipe: Mapping[str, Any]) -> None:
        """The recipe as a text, and its values as hyperparameters."""
        assert self.writer is not None, "it is open"
        text = yaml.safe_dump(dict(recipe), sort_keys=False)
        self.writer.add_text("recipe", f"```yaml\n{text}```", global_step=self._last_step)
        values = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in flatten(recipe).items()
        }
        for summary in hparams(values, dict.fromkeys(_RESULTS, 0.0)):
            self.writer._get_file_writer().add_summary(summary)
        self.writer.flush()

    def init(self, state: State, logger: Logger) -> None:
        """Nothing: it is open."""

    def fit_start(self, state: State, logger: Logger) -> None:
        # A roll-back goes on behind an earlier update in the same launch.
        step = int(state.timestamp.batch.value)
        if step < self._last_step:
            assert self.writer is not None, "it is open"
            self.writer.close()
            self.writer = self._open(step)
            self._last_step = step

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        own = without_composers(metrics)
        own.pop("step", None)  # the axis
        if step is not None:
            self._last_step = max(self._last_step, step)
        super().log_metrics(own, step)

    def log_hyperparameters(self, hyperparameters: dict[str, Any]) -> None:
        """Nothing of Composer's: the recipe is there."""

    def eval_end(self, state: State, logger: Logger) -> None:
        self._flush(logger)

    def _flush(self, logger: Logger) -> None:
        if self.writer is not None:
            self.writer.flush()

    def close(self, state: State, logger: Logger) -> None:
        """Of a stage: the next one goes on with it."""
        self._flush(logger)

    def finish(self) -> None:
        """Close it at the end of the launch."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
