"""Whether a process was told to stop: signals.

They are taken note of from a command's first moment on, long before it trains: importing Composer
takes seconds. So nothing of Composer's or torch's is imported here.

Signals reach a process of Python when its main thread runs Python; one that waits in a collective
does not. So the kernel's handler also writes each signal's number into a pipe, which another thread
reads (``signal.set_wakeup_fd``).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any, Self

# Slurm, Kubernetes and ``timeout`` send SIGTERM; Slurm sends SIGUSR1 where it is asked to warn;
# a closed terminal sends SIGHUP, Ctrl-C SIGINT.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# Launchers pass on a signal that a process has had from its group already.
SAME_REQUEST_SECONDS = 3.0


class StopRequest:
    """Whether this process was told to stop, by what, and when.

    Inside its ``with`` block signals tell it so; what was ignored before stays so (``nohup``). One
    inside another's block takes over what that one was told, and what comes.

    Attributes:
        reason: what told it; None if nothing did.
        is_final: nothing is left to lose: the checkpoint is saved.
        is_watched: whether a thread reads the pipe, and ends the process at a second request.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.is_final = False
        self.is_watched = False
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_wakeup = -1
        self.read_end = self._write_end = -1

    def __enter__(self) -> Self:
        outer = _ACTIVE[-1] if _ACTIVE else None
        _ACTIVE.append(self)
        self.read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in SIGNALS:
            if (handler := signal.getsignal(number)) is signal.SIG_IGN:
                continue
            # Importing Composer has put its own handler in the outer one's place: it is not wanted
            # back.
            self._previous[number] = outer._receive if outer else handler
            signal.signal(number, self._receive)
        if outer is not None and outer.reason is not None:
            self.request(outer.reason)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        _ACTIVE.remove(self)
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
        name = signal.Signals(number).name
        if self.is_impatient() and not self.is_watched:
            print(f"ended by a second {name}, without saving", file=sys.stderr, flush=True)
            os._exit(128 + number)
        self.request(name)


# Those whose block is entered, the innermost last.
_ACTIVE: list[StopRequest] = []


def ignore_signals() -> None:
    """From here on the exit code is decided: a signal that comes while Python ends changes none."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
