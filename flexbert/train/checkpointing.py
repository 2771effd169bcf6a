"""Saving a run, and letting a trainer go on from what was saved."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State, Timestamp
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
from flexbert.files.durable import WriteError
from flexbert.train.early_stopping import EarlyStopper, ending_checkpoint
from flexbert.train.health.update_guard import UpdateGuard, require_finite
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.run_lock import RunLock
from flexbert.train.recipe_callbacks import callback_states, load_callback_states
from flexbert.train.retention import Retention
from flexbert.train.run_folder import RunFolder
from flexbert.train.stage_run import StageRun, stage_is_over

# So often in a row an interval's checkpoint may fail to be written before the run ends for it.
MAX_FAILED_WRITES = 3


class Checkpointer(Callback):
    """Writes ``step-XXXXXXXX.pt`` at the recipe's interval, at the end, and where a run is stopped.

    Composer's own saver writes in place, so that a kill leaves a partial file in the way.

    Weights are saved only if all of their numbers are finite, and not while they are in doubt
    because updates are being skipped. Older checkpoints are deleted once the newest has proved
    good: a finite loss was computed from its weights.

    Attributes:
        due_step: updates in the last checkpoint that the interval or a stage's end made due; a
            spike goes back to that one, so that the result does not depend on where a run was
            stopped.
    """

    def __init__(
        self,
        run: StageRun,
        folder: RunFolder,
        model: nn.Module,
        guard: UpdateGuard,
        peers: Peers,
        retention: Retention,
        early_stopping: EarlyStopper,
        lock: RunLock | None,
        due_step: int,
        is_overdue: bool,
        saved_step: int | None,
        *,
        resolved: Mapping[str, Any],
        tokenizer: Mapping[str, str],
        data: Callable[[], DataState],
        moving_average: Callable[[], Weights | None],
        callbacks: Mapping[str, Callback],
    ) -> None:
        """
        Args:
            lock: that this process holds on the run folder; None on all but the first.
            saved_step: of the run's own checkpoint that the launch goes on from, if it does.
            resolved: the resolved recipe of the whole run.
            tokenizer: file name to text.
            data: the place behind the last update.
            moving_average: of the weights after the last update, where the recipe keeps one.
            callbacks: the recipe's, by name.
        """
        self.run = run
        self.folder = folder
        self.model = model
        self.guard = guard
        self.peers = peers
        self.retention = retention
        self.early_stopping = early_stopping
        self.lock = lock
        self.due_step = due_step
        self.resolved = resolved
        self.tokenizer = tokenizer
        self.data = data
        self.moving_average = moving_average
        self.callbacks = callbacks
        self._saved_step = saved_step
        self._is_overdue = is_overdue
        self._evaluated_step = -1
        self._failed_writes = 0
        self._may_delete = True

    def batch_end(self, state: State, logger: Logger) -> None:
        # This update's loss was computed from the weights of the newest checkpoint, or from later
        # ones that began as them.
        if self._may_delete and not self.guard.is_sick:
            self._delete_old()

    def eval_after_all(self, state: State, logger: Logger) -> None:
        losses = [float(metrics["loss"].compute()) for metrics in state.eval_metrics.values()]
        if all(map(math.isfinite, losses)):
            self._evaluated_step = int(state.timestamp.batch.value)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._note_due(state)
        self._note_best(state)
        is_last = stage_is_over(state)
        if is_last or (self._is_overdue and not self.guard.is_sick):
            self.save(state, is_due=True, may_fail=not is_last)

    def save(
        self,
        state: State,
        *,
        is_due: bool = False,
        may_fail: bool = False,
        evaluation_due: bool = False,
        change: Callable[[Checkpoint], Checkpoint] = lambda own: own,
    ) -> None:
        """Write a checkpoint of the run as it is after its last update.

        Args:
            is_due: by the interval or the stage's end, and not because the run was asked to stop.
            may_fail: a disk that takes no checkpoint now is warned of, and tried again later.
            evaluation_due: see :class:`~flexbert.checkpoint.checkpoint.TrainingState`.
            change: what is written of it, on the first process.

        Raises:
            NumbersError: if a weight is not finite.
            WriteError: if it cannot be written.
        """
        step = int(state.timestamp.batch.value)
        due_step = step if is_due else self.due_step
        is_saved = self.peers.broadcast(
            f"saving the checkpoint of update {step}",
            lambda: self._write(
                state,
                change(self._collect(state, due_step=due_step, evaluation_due=evaluation_due)),
                may_fail=may_fail,
            ),
            slow=True,
        )
        if is_due:
            self._is_overdue = False
        if is_saved:
            self._saved_step = step
            self.due_step = due_step
            if is_due:
                self.early_stopping.expect_tasks()

    def save_stopped(self, state: State, *, evaluation_due: bool) -> None:
        """Save what a run that is stopped has computed, if that is not saved yet."""
        if evaluation_due and state.previous_timestamp is not None:
            self._note_due(state)  # an evaluation comes before the checkpoint of its update
        if self._saved_step != int(state.timestamp.batch.value) or evaluation_due:
            self.save(state, evaluation_due=evaluation_due)

    def save_evaluated(self, state: State) -> None:
        """Save that the evaluation is done in which the run was stopped."""
        self._note_best(state)
        self.save(state, is_due=self._is_overdue and not self.guard.is_sick)

    def save_stage_end(self, state: State, best_step: int | None) -> None:
        """Save what the stage ends with, whatever its clock says.

        Args:
            best_step: of the checkpoint whose weights and optimizer's state it ends with; None for
                those of its last update.

        Raises:
            NumbersError, WriteError: as :meth:`save`.
        """

        def end(own: Checkpoint) -> Checkpoint:
            best = None
            if best_step is not None:
                best = read_checkpoint(self.folder.checkpoints / checkpoint_name(best_step))
            return ending_checkpoint(own, best)

        self.save(state, is_due=True, change=end)

    def _note_best(self, state: State) -> None:
        if self.early_stopping.needs_checkpoint_of(int(state.timestamp.batch.value)):
            self._is_overdue = True

    def _note_due(self, state: State) -> None:
        if self.run.completed(self.run.recipe.checkpoints.interval, state):
            self._is_overdue = True

    def _write(self, state: State, checkpoint: Checkpoint, *, may_fail: bool) -> bool:
        """Write it, on the first process; whether the disk has taken it."""
        if self.lock is not None:
            self.lock.check()
        self.folder.flush_metrics()
        saved = list_checkpoints(self.folder.checkpoints)
        last_good = saved[-1] if saved else None
        require_finite(checkpoint.model, "a weight", last_good)
        path = self.folder.checkpoints / checkpoint_name(int(state.timestamp.batch.value))
        try:
            write_checkpoint(path, checkpoint)
        except WriteError as error:
            self._failed_writes += 1
            intact = f"; the last good checkpoint is {last_good}" if last_good else ""
            if not may_fail or self._failed_writes >= MAX_FAILED_WRITES:
                raise WriteError(f"{error}{intact}") from None
            print(
                f"warning: {error}{intact}; training goes on, and tries again at the next "
                f"interval; refusal {self._failed_writes} of {MAX_FAILED_WRITES} in a row",
                flush=True,
            )
            return False
        self._failed_writes = 0
        self._may_delete = True
        if self._evaluated_step == int(state.timestamp.batch.value):
            self._delete_old()
        return True

    def _delete_old(self) -> None:
        self._may_delete = False
        if self.peers.rank.is_first:
            recipe, best_step = self.run.recipe, self.early_stopping.state.best_step
            needed = [self.due_step] if recipe.health.rolls_back else []
            needed += [best_step] if recipe.evaluation.restores_best else []
            self.retention.delete_old(needed)

    def _collect(self, state: State, *, due_step: int, evaluation_due: bool) -> Checkpoint:
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
                health=self.guard.state(),
                evaluation_due=evaluation_due,
                due_step=due_step,
                is_overdue=self._is_overdue and due_step != int(state.timestamp.batch.value),
                early_stopping=self.early_stopping.state,
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
