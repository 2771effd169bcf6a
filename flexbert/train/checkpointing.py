"""Saving a run, and letting a trainer go on from what was saved."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State, Timestamp
from composer.utils import dist
from torch import nn

from flexbert.checkpoint.checkpoint import Checkpoint, RunClock, TrainingState, Weights
from flexbert.checkpoint.checkpoint_file import (
    CheckpointError,
    read_checkpoint,
    training_of,
    write_checkpoint,
)
from flexbert.checkpoint.checkpoint_names import checkpoint_name, list_checkpoints
from flexbert.checkpoint.mapped import copy_mapped
from flexbert.checkpoint.optimizer_state import load_optimizer_state, optimizer_state
from flexbert.checkpoint.weights import checked_weights
from flexbert.config.encode import encode
from flexbert.data.packing.position import DataState
from flexbert.train.recipe_callbacks import callback_states, load_callback_states
from flexbert.train.stage_run import StageRun


class Checkpointer(Callback):
    """Writes ``step-XXXXXXXX.pt`` at the recipe's interval, at the end, and before preemption.

    Composer's own saver writes in place, so that a kill leaves a partial file in the way.
    """

    def __init__(
        self,
        run: StageRun,
        folder: Path,
        model: nn.Module,
        *,
        resolved: Mapping[str, Any],
        tokenizer: Mapping[str, str],
        data: Callable[[], DataState],
        moving_average: Callable[[], Weights | None],
        callbacks: Mapping[str, Callback],
    ) -> None:
        """
        Args:
            resolved: the resolved recipe of the whole run.
            tokenizer: file name to text.
            data: the place behind the last update.
            moving_average: of the weights after the last update, where the recipe keeps one.
            callbacks: the recipe's, by name.
        """
        self.run = run
        self.folder = folder
        self.model = model
        self.resolved = resolved
        self.tokenizer = tokenizer
        self.data = data
        self.moving_average = moving_average
        self.callbacks = callbacks

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        stopping = state.max_duration is not None and state.timestamp >= state.max_duration
        if stopping or self.run.completed(self.run.recipe.checkpoints.interval, state):
            self._save(state)

    def _save(self, state: State) -> None:
        if dist.get_global_rank() == 0:
            clock = run_clock(state.timestamp)
            write_checkpoint(self.folder / checkpoint_name(clock.updates), self._collect(state))
            keep = self.run.recipe.checkpoints.keep
            if keep is not None:
                for old in list_checkpoints(self.folder)[:-keep]:
                    old.unlink()
        dist.barrier()

    def _collect(self, state: State) -> Checkpoint:
        (optimizer,) = state.optimizers
        recipe = self.run.recipe
        return Checkpoint(
            recipe=encode(recipe),
            tokenizer=self.tokenizer,
            model=self.model.state_dict(),
            training=TrainingState(
                run=self.resolved,
                clock=run_clock(state.timestamp),
                data=self.data(),
                optimizer=optimizer_state(recipe.optimizer.name, self.model, optimizer),
                moving_average=self.moving_average(),
                callbacks=callback_states(self.callbacks),
            ),
        )


def restore(
    path: Path,
    state: State,
    model: nn.Module,
    run: StageRun,
    callbacks: Mapping[str, Callback],
) -> Weights | None:
    """Let a trainer go on from a checkpoint, and let go of the checkpoint.

    Weights are copied from the mapped file one at a time, and so is the optimizer's state, so that
    there is never a second copy of either. An optimizer of another name begins with none.

    Args:
        callbacks: the recipe's, by name.

    Returns:
        The moving average that the checkpoint holds, where the recipe keeps one.

    Raises:
        CheckpointError: if it does not fit the model, or the optimizer's state does not.
    """
    # find_start has just compared it with its hash.
    checkpoint = read_checkpoint(path, verify=False)
    training = training_of(checkpoint)
    own = model.state_dict()
    for name, weight in checked_weights(checkpoint, run.recipe.model).items():
        copy_mapped(weight, own[name])
    (optimizer,) = state.optimizers
    if training.optimizer.name == run.recipe.optimizer.name:
        try:
            load_optimizer_state(training.optimizer, model, optimizer)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    state.timestamp.load_state_dict(_timestamp(training.clock).state_dict())
    load_callback_states(callbacks, training.callbacks)
    average = training.moving_average
    if average is None or run.recipe.moving_average is None:
        return None
    weights = checked_weights(checkpoint, run.recipe.model, average)
    return {name: copy_mapped(weight) for name, weight in weights.items()}


def run_clock(timestamp: Timestamp) -> RunClock:
    """Composer's clock, whose batches are updates and whose samples are rows."""
    return RunClock(
        updates=int(timestamp.batch.value),
        rows=int(timestamp.sample.value),
        tokens=int(timestamp.token.value),
        seconds=timestamp.total_wct.total_seconds(),
    )


def _timestamp(clock: RunClock) -> Timestamp:
    """The inverse of :func:`run_clock`: our streams are endless, so all is in the first epoch."""
    wall_clock = datetime.timedelta(seconds=clock.seconds)
    return Timestamp(
        batch=clock.updates,
        batch_in_epoch=clock.updates,
        sample=clock.rows,
        sample_in_epoch=clock.rows,
        token=clock.tokens,
        token_in_epoch=clock.tokens,
        total_wct=wall_clock,
        epoch_wct=wall_clock,
    )
