"""A run that is told to stop: signals, and a place to stop at that all processes agree on.

Signals reach a process of Python when its main thread runs Python; one that waits in a collective
does not. So the kernel's handler also writes each signal's number into a pipe, which another thread
reads (``signal.set_wakeup_fd``).
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any, Self

from composer import Callback, Logger, State

from flexbert.train.processes.peers import Peers

# Slurm, Kubernetes and ``timeout`` send SIGTERM; Slurm sends SIGUSR1 where it is asked to warn;
# a closed terminal sends SIGHUP, Ctrl-C SIGINT.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# Launchers pass on a signal that a process has had from its group already.
SAME_REQUEST_SECONDS = 3.0
_LOOK_SECONDS = 1.0


class Stopped(BaseException):
    """The run stops here, on every process; a checkpoint is to be saved of what came before.

    No ``Exception``, so that nothing that recovers from errors takes it for one.
    """


class StopRequest:
    """Whether this process was told to stop, by what, and when.

    Inside its ``with`` block signals tell it so; what was ignored before stays so (``nohup``).

    Attributes:
        reason: what told it; None if nothing did.
        is_final: nothing is left to lose: the checkpoint is saved.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.is_final = False
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_wakeup = -1
        self.read_end = self._write_end = -1

    def __enter__(self) -> Self:
        self.read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        for end in (self.read_end, self._write_end):
            os.close(end)
        self.read_end = self._write_end = -1

    @property
    def is_requested(self) -> bool:
        return self.reason is not None

    def request(self, reason: str) -> None:
        """Ask for a stop; what asked first stays the reason."""
        if self.reason is None:
            self.reason, self._since = reason, time.monotonic()

    def wake(self) -> None:
        """Let whoever reads the pipe look up."""
        os.write(self._write_end, b"\0")

    def is_impatient(self) -> bool:
        """Whether a signal that comes now is a second request, and not the first one's echo."""
        late = time.monotonic() - self._since > SAME_REQUEST_SECONDS
        return self.is_requested and late and not self.is_final

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.request(signal.Signals(number).name)


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


_GO, _STOP, _ROLL_BACK = "go", "stop", "roll back"
