"""A stage that ends before its duration, because a metric no longer improves.

The decision is a function of what a checkpoint remembers and of what was measured at the steps
since; the first process makes it and tells the others. What a stage ends with is written as one
checkpoint, whose ``has_ended`` takes the place of the stage's clock. So a run that is killed at any
moment either comes to the same decision again or finds it carried out:

1. Evaluations are counted before the checkpoint of their update is written, and a suite's tasks,
   which are measured at checkpoints, before the next update.
2. Before an update the stage ends if too many in a row were no improvement.
3. With ``restore: best`` the checkpoint that ends the stage has the weights and the optimizer's
   state of its best evaluation, and the clock and the place in the data of its end. Until it is
   written the stage is not over, though its clock may be.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace

from composer import Callback, Logger, State

from flexbert.checkpoint.checkpoint import Checkpoint, EarlyStoppingState
from flexbert.checkpoint.checkpoint_file import training_of
from flexbert.checkpoint.run_metric import RunMetric, UnknownMetricError, find_metric
from flexbert.config.by_metric import EarlyStoppingConfig, is_own_metric
from flexbert.task_metrics_file import read_task_metrics
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.stopping import EndStage, StopBetween
from flexbert.train.run_folder import RunFolder
from flexbert.train.stage_run import StageRun


class EarlyStopper(Callback):
    """Counts a stage's evaluations and ends the stage; does nothing where the recipe has none.

    It comes before what writes checkpoints, which hold its state.

    Attributes:
        state: for a checkpoint.
    """

    def __init__(
        self,
        run: StageRun,
        folder: RunFolder,
        stop: StopBetween,
        peers: Peers,
        state: EarlyStoppingState,
    ) -> None:
        """
        Args:
            state: what the checkpoint that a launch goes on from remembers of the stage.
        """
        self.run = run
        self.config = run.recipe.evaluation.early_stopping
        self.folder = folder
        self.stop = stop
        self.peers = peers
        self.state = state
        # A launch does not know what was measured behind its checkpoint.
        self._may_be_measured = True
        self._told = False

    @property
    def must_end(self) -> bool:
        """Whether too many evaluations in a row were no improvement."""
        return self.config is not None and self.state.without_improvement >= self.config.patience

    def needs_checkpoint_of(self, step: int) -> bool:
        """Whether the stage may end with the weights of this step, the best so far."""
        return self.run.recipe.evaluation.restores_best and self.state.best_step == step

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        recipe = self.run.recipe
        is_evaluated = self.run.completed(recipe.evaluation.interval, state)
        if is_evaluated:
            self.look(state)
        # A task's metric comes behind the checkpoint.
        if is_evaluated or self.run.completed(recipe.checkpoints.interval, state):
            self._may_be_measured = True

    def expect_tasks(self) -> None:
        """A checkpoint is saved that tasks may be measured at before the next update."""
        self._may_be_measured = True

    def batch_start(self, state: State, logger: Logger) -> None:
        if self._may_be_measured:
            self.look(state)
        if self.must_end and not self._goes_back():
            raise EndStage

    def _goes_back(self) -> bool:
        """Whether this update will be left for a roll-back, which forgets these evaluations."""
        what = f"ending stage {self.run.stage.name} early"
        return any(self.peers.gather(what, self.stop.roll_back_asked))

    def look(self, state: State) -> None:
        """Count what was measured at this step, if anything was and it does not count yet."""
        self._may_be_measured = False
        step = int(state.timestamp.batch.value)
        if self.config is None or step <= max(self.run.first_step, self.state.seen_step):
            return
        plain = self.peers.broadcast(
            f"early stopping after update {step}", lambda: asdict(self._counted(step))
        )
        self.state = EarlyStoppingState(**plain)

    def _counted(self, step: int) -> EarlyStoppingState:
        assert self.config is not None, "looked for a metric"
        # Of no other step: what a watcher measured of earlier ones came at any time.
        evaluations = [
            record
            for record in self.folder.results()
            if record.event == "eval" and record.step == step
        ]
        tasks = [task for task in read_task_metrics(self.folder.path) if task.step == step]
        try:
            metric = find_metric(self.config.metric, evaluations, tasks, self.folder.path)
        except UnknownMetricError as error:
            if tasks and not is_own_metric(self.config.metric) and not self._told:
                self._told = True
                print(f"warning: evaluation.early_stopping: update {step}: {error}", flush=True)
            return self.state
        return counted(self.state, self.config, metric, step)


def counted(
    state: EarlyStoppingState, config: EarlyStoppingConfig, metric: RunMetric, step: int
) -> EarlyStoppingState:
    """What is remembered once the evaluation at a step counts too."""
    value = metric.by_step[step]
    state = replace(state, seen_step=step, without_improvement=state.without_improvement + 1)
    if not math.isfinite(value):
        return state
    if state.best is None or metric.is_better(value, state.best):
        state = replace(state, best=value, best_step=step)
    if state.bar is None or metric.is_better(value, state.bar, config.min_delta):
        state = replace(state, bar=value, without_improvement=0)
    return state


def ending_checkpoint(own: Checkpoint, best: Checkpoint | None) -> Checkpoint:
    """The checkpoint that ends a stage.

    Args:
        own: of the stage's last update.
        best: whose weights, moving average and optimizer's state take the place of its own.
    """
    training = training_of(own)
    ended = replace(training.early_stopping, has_ended=True)
    if best is None:
        return replace(own, training=replace(training, early_stopping=ended))
    of_best = training_of(best)
    return replace(
        own,
        model=best.model,
        training=replace(
            training,
            optimizer=of_best.optimizer,
            moving_average=of_best.moving_average,
            callbacks=of_best.callbacks,
            early_stopping=ended,
        ),
    )
