"""Tasks that checkpoints are tried on while training: ``evaluation.suite``.

Training waits for them, and nothing of it changes: fits have weights and random numbers of their
own. All processes share the fits through the run's folder. A trial that a stop or a kill has ended
goes on where the next launch begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from composer import Callback, Logger, State
from composer.loggers import LoggerDestination

from flexbert.config.training import SuiteEvaluationConfig
from flexbert.data.reading.corpora import Corpora
from flexbert.schedule.stages import Stage
from flexbert.task_metrics_file import logged, measured_text
from flexbert.tasks.checkpoint_tasks import CheckpointTasks, TriedCheckpoint
from flexbert.train.checkpointing import Checkpointer
from flexbert.train.device_checks import training_torch_device
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.stop_request import StopRequest
from flexbert.train.processes.stopping import Stopped
from flexbert.train.run_folder import RunFolder
from flexbert.train.stage_run import StageRun, stage_is_over

_LOOK_SECONDS = 1.0
_STOP = "stop"


class LiveTasks:
    """Tries checkpoints of a run on the tasks of its recipe, all processes together.

    Every method is called by every process, in the same order.

    Raises:
        UserError: if the suite or a row of it is wrong.
    """

    def __init__(
        self,
        config: SuiteEvaluationConfig,
        folder: RunFolder,
        peers: Peers,
        request: StopRequest,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            say: prints a line, on the first process.
        """
        self._tasks = CheckpointTasks(folder.path, config, training_torch_device(), self._beat)
        self._folder = folder
        self._peers = peers
        self._request = request
        self._say = say
        self._decision = ""
        self._looked = 0.0

    def check(self, stages: Sequence[Stage], corpora: Sequence[Corpora]) -> None:
        """See that the checkpoints of every stage will go with every task.

        Raises:
            UserError: if they will not.
        """
        for stage, read in zip(stages, corpora, strict=True):
            self._tasks.check(stage.recipe, read.tokenizer)

    def is_due(self, checkpoint: TriedCheckpoint) -> bool:
        """Whether the recipe asks for a checkpoint to be tried, and that is not done yet."""
        what = f"whether {checkpoint.path.name} is to be tried on tasks"
        return bool(self._peers.broadcast(what, lambda: self._tasks.is_due(checkpoint), slow=True))

    def try_if_due(self, checkpoint: TriedCheckpoint, loggers: Sequence[LoggerDestination]) -> None:
        """Try a checkpoint, if it is due, and log what it came to at its step.

        Args:
            loggers: of the first process.

        Raises:
            Stopped: if the run was told to stop meanwhile.
            UserError: if the checkpoint does not go with a task.
        """
        if not self.is_due(checkpoint):
            return
        what = f"trying {checkpoint.path.name} on tasks"
        self._say(f"{what}: {', '.join(self._tasks.suite.tasks)}")
        self._decision = f"tasks/{self._peers.next_number()}"
        is_stopped = False
        try:
            with WHEREABOUTS.doing(what, slow=True):
                self._tasks.try_checkpoint(checkpoint)
        except _TrialStoppedError:
            is_stopped = True
        if any(self._peers.gather(f"{what}, done", is_stopped, slow=True)):
            raise Stopped
        if self._peers.rank.is_first:
            measured = self._tasks.record(checkpoint)
            for each in measured:
                self._say(f"step {each.step:,}  {measured_text(each)}")
            for logger in loggers:
                logger.log_metrics(logged(measured), step=checkpoint.step)
        self._peers.meet(f"{what}, recorded", slow=True)

    def _beat(self) -> None:
        """Show that this process goes on, and look whether the run is to stop."""
        WHEREABOUTS.go_on()
        if self._request.is_requested:
            self._peers.decide(self._decision, _STOP)
            raise _TrialStoppedError
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._peers.raise_failure()
            if self._peers.decided(self._decision) == _STOP:
                raise _TrialStoppedError


class _TrialStoppedError(Exception):
    """The run is told to stop, here or in another process."""


class TasksAtCheckpoints(Callback):
    """Tries each checkpoint that was due on tasks, once it is saved."""

    def __init__(
        self,
        run: StageRun,
        folder: RunFolder,
        checkpointer: Checkpointer,
        live: LiveTasks,
        loggers: Sequence[LoggerDestination],
    ) -> None:
        self._run = run
        self._folder = folder
        self._checkpointer = checkpointer
        self._live = live
        self._loggers = loggers
        self._tried_step = -1

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self._checkpointer.due_step == int(state.timestamp.batch.value):
            self._try(state)

    def catch_up(self, state: State) -> None:
        """Try the run's own checkpoint that a launch goes on from, if an earlier one was stopped or
        killed before it was tried."""
        # One that a stop has made of a stage's last update ends the stage all the same.
        if self._checkpointer.due_step == int(state.timestamp.batch.value) or stage_is_over(state):
            self._try(state)

    def _try(self, state: State) -> None:
        step = int(state.timestamp.batch.value)
        if self._tried_step == step:
            return
        self._tried_step = step
        checkpoint = TriedCheckpoint(
            path=self._folder.checkpoint(step),
            stage=self._run.stage.name,
            step=step,
            tokens=int(state.timestamp.token.value),
            ends_stage=stage_is_over(state),
        )
        self._live.try_if_due(checkpoint, self._loggers)


def catch_up(state: State) -> None:
    """See :meth:`TasksAtCheckpoints.catch_up`; nothing where the recipe has no tasks."""
    for callback in state.callbacks:
        if isinstance(callback, TasksAtCheckpoints):
            callback.catch_up(state)
