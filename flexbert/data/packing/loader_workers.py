"""Processes that make batches ahead: signals are not for them, and they never outlive their parent.

A signal to a run's process group (Slurm, ``timeout``, Ctrl-C) reaches its loader's processes too.
The run is to stop at its own time and needs them until then, so they ignore what asks to stop.
Whoever wants one to end, torch at the end of a loader or Python at its own, must therefore kill it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import weakref
from collections.abc import Iterator
from multiprocessing.context import ForkContext, ForkProcess
from multiprocessing.popen_fork import Popen
from typing import Any

from flexbert.errors import UserError

_PR_SET_PDEATHSIG = 1
_STARTED: weakref.WeakSet[_Worker] = weakref.WeakSet()
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class WorkerError(UserError):
    """A process that makes batches ended; the same command goes on."""

    exit_code = 71


class _KilledPopen(Popen):
    def terminate(self) -> None:
        self._send_signal(signal.SIGKILL)  # type: ignore[attr-defined]


class _Worker(ForkProcess):
    def start(self) -> None:
        super().start()
        _STARTED.add(self)

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802 - multiprocessing's name
        return _KilledPopen(process_obj)


class WorkerContext(ForkContext):
    """What torch's DataLoader makes its processes with; to terminate one is to kill it."""

    Process = _Worker  # type: ignore[assignment]


class WorkerStart:
    """What a loader's process does first. Made in the parent, and called in the process."""

    def __init__(self) -> None:
        self._parent = os.getpid()

    def __call__(self, worker: int) -> None:
        # The parent's wake-up pipe came along: what arrives here must not be written to it.
        signal.set_wakeup_fd(-1)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == "linux":
            # The kernel kills it when its parent ends, however that ends.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:
            os._exit(0)


def worker_ended(error: Exception) -> WorkerError | None:
    """The error to raise for another, where a process of a loader has ended by itself.

    Torch's handler of SIGCHLD raises wherever the main thread is, also while it deals with another
    error; what is read from such a process may fail before.
    """
    for cause in _behind(error):
        lost = isinstance(cause, ConnectionError | EOFError) and _any_killed()
        if lost or (isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause)):
            return WorkerError(
                "a process that prepares batches ended (killed by the system for its memory, "
                f"perhaps: try a smaller data.num_workers): {' '.join(str(cause).split())[:200]}"
            )
    return None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised in the handling of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _any_killed() -> bool:
    return any(worker.exitcode not in (None, 0) for worker in _STARTED)
