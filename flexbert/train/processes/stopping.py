"""A run that is told to stop: a place to stop at that all processes agree on."""

from __future__ import annotations

import time

from composer import Callback, Logger, State

from flexbert.train.processes.peers import Peers
from flexbert.train.processes.stop_request import StopRequest
from flexbert.train.stage_run import stage_is_over

_LOOK_SECONDS = 1.0


class Stopped(BaseException):
    """The run stops here, on every process; a checkpoint is to be saved of what came before.

    No ``Exception``, so that nothing that recovers from errors takes it for one.
    """


class StopBetween(Callback):
    """Stops training and evaluation between micro-batches, on every process or on none.

    Processes speak to each other in the last micro-batch of an update alone, when they sum up their
    gradients. Before that one, whoever comes first decides for all whether the update is finished;
    so nobody waits for a process that has left it. An evaluation is decided on in the same way.

    Attributes:
        in_evaluation: whether an evaluation is going on.
        roll_back_asked: whether training is to go back to its last checkpoint.
    """

    def __init__(self, request: StopRequest, peers: Peers) -> None:
        self.request = request
        self.peers = peers
        self.in_evaluation = False
        self.roll_back_asked = False
        self._decision = self._update = ""
        self._done = self._count = 0
        self._looked = 0.0

    def batch_start(self, state: State, logger: Logger) -> None:
        if self._update:
            # Every process has read it: none is through an update before all are.
            self.peers.forget(self._update)
        self._begin(len(state.batch["microbatches"]))
        self._update = self._decision

    def before_forward(self, state: State, logger: Logger) -> None:
        self._step()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if stage_is_over(state):
            # Behind the stage's last update no micro-batch comes before which to decide.
            self._begin(1)
            self._step()

    def eval_before_all(self, state: State, logger: Logger) -> None:
        self.in_evaluation = True

    def eval_start(self, state: State, logger: Logger) -> None:
        assert state.dataloader_len is not None, "an evaluation has an end"
        self._begin(int(state.dataloader_len))

    def eval_batch_start(self, state: State, logger: Logger) -> None:
        self._step()

    def eval_after_all(self, state: State, logger: Logger) -> None:
        self.in_evaluation = False

    def _begin(self, count: int) -> None:
        self._decision = str(self.peers.next_number())
        self._done, self._count = 0, count

    def _step(self) -> None:
        """Before each micro-batch."""
        self._done += 1
        proposal = self._proposal()
        is_last = self._done == self._count
        if is_last or proposal != _GO:
            proposal = self.peers.decide(self._decision, proposal)
        elif time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            proposal = self.peers.decided(self._decision) or _GO
        if proposal == _STOP:
            raise Stopped
        if proposal == _ROLL_BACK:
            raise RollBack

    def _proposal(self) -> str:
        if self.request.is_requested:
            return _STOP
        return _ROLL_BACK if self.roll_back_asked and not self.in_evaluation else _GO


class RollBack(BaseException):
    """Training goes back to its last checkpoint, on every process."""


class EndStage(BaseException):
    """The stage ends here, before its duration, on every process."""


_GO, _STOP, _ROLL_BACK = "go", "stop", "roll back"
