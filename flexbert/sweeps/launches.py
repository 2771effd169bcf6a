"""Launches of runs, several at once, each with a lock and a share of the machine of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import flexbert
from flexbert.files.durable import write_errors
from flexbert.files.file_lock import lock_to_share
from flexbert.sweeps.runs import SweepRun
from flexbert.train.processes.run_errors import PREEMPTED

LOCKS, LOGS = "locks", "logs"
MAIN = Path(flexbert.__file__).parent.parent / "main.py"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Of what a run printed, in a message about its end.
_LAST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A launch that has ended.

    Attributes:
        code: with which it ended; negative where a signal ended it.
        log: the file of what it printed.
        was_enough: whether it was stopped before its end, for good.
    """

    run: SweepRun
    code: int
    seconds: float
    log: Path
    was_enough: bool = False


@dataclass(kw_only=True)
class GoingLaunch:
    """A launch that is going on.

    Attributes:
        share: of the machine: its place among the others.
        port: at which its processes meet; None where it is one process.
        held: its lock, which the process holds too.
        begun: on this process's monotonic clock, in seconds.
        is_enough: whether it was stopped for good, and not for a while.
    """

    run: SweepRun
    share: int
    port: int | None
    process: subprocess.Popen[bytes]
    log: Path
    held: contextlib.ExitStack
    begun: float = field(default_factory=time.monotonic)
    is_enough: bool = False

    def stop(self) -> None:
        """Have it save a checkpoint and end; returns at once."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def ended(self) -> Launched | None:
        """What came of it, with its lock let go; None while it goes on."""
        code = self.process.poll()
        if code is None:
            return None
        self.held.close()
        seconds = time.monotonic() - self.begun
        return Launched(
            run=self.run,
            code=code,
            seconds=seconds,
            log=self.log,
            was_enough=self.is_enough and code == PREEMPTED,
        )


class Launches:
    """The launches of this process.

    SIGTERM and Ctrl-C are passed on to all of them, which save checkpoints and end; none is begun
    after that.

    Attributes:
        stopping: whether a signal has come, or :meth:`stop` was called.
        going: in the order they began.

    Args:
        base: the recipe that the runs are of.
        folder: of the sweep.
        num_processes: of each run.
        shares: of the machine, as environments; there are at most as many launches at once.
    """

    def __init__(
        self, base: Path, folder: Path, num_processes: int, shares: Sequence[Mapping[str, str]]
    ) -> None:
        self.stopping = False
        self.going: list[GoingLaunch] = []
        self._base = base
        self._folder = folder
        self._num_processes = num_processes
        self._shares = shares

    def __enter__(self) -> Launches:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        # Whatever ended this early: what was begun is not left behind.
        self.stop()
        for launch in self.going:
            launch.process.wait()
            launch.held.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def has_room(self) -> bool:
        """Whether a share of the machine is free, and another launch may begin."""
        return not self.stopping and len(self.going) < len(self._shares)

    def stop(self) -> None:
        """Have every launch save a checkpoint and end; returns at once."""
        self.stopping = True
        for launch in self.going:
            launch.stop()

    def lock(self, run: SweepRun) -> tuple[contextlib.ExitStack, int] | None:
        """A run's lock and its descriptor; None where another process has it."""
        held = contextlib.ExitStack()
        lock = self._folder / LOCKS / run.name
        descriptor = held.enter_context(lock_to_share(lock, wait=False))
        if descriptor is None:
            held.close()
            return None
        return held, descriptor

    def begin(self, run: SweepRun, held: contextlib.ExitStack, descriptor: int) -> None:
        """Launch a run whose lock is held."""
        with contextlib.ExitStack() as unless_begun:
            unless_begun.push(held)
            taken = {launch.share for launch in self.going}
            share = next(index for index in range(len(self._shares)) if index not in taken)
            command, port = self._command(run)
            log = self._folder / LOGS / f"{run.name}.log"
            process = _started(command, self._shares[share], log, descriptor)
            self.going.append(
                GoingLaunch(run=run, share=share, port=port, process=process, log=log, held=held)
            )
            unless_begun.pop_all()
        if self.stopping:
            process.send_signal(signal.SIGTERM)

    def ended(self) -> list[Launched]:
        """Those that have ended since this was last asked."""
        found = []
        for launch in [*self.going]:
            if (launched := launch.ended()) is not None:
                self.going.remove(launch)
                found.append(launched)
        return found

    def _command(self, run: SweepRun) -> tuple[list[str], int | None]:
        """What trains a run, and the port that its processes meet at."""
        script = [str(MAIN), str(self._base), *run.overrides]
        if self._num_processes == 1:
            return [sys.executable, *script], None
        # Not Composer's choice, which is the same for all where MASTER_PORT is set.
        port = _free_port({launch.port for launch in self.going})
        options = ["-n", str(self._num_processes), "--master_port", str(port)]
        command = [sys.executable, "-m", "flexbert.commands", "launch", *options, *script]
        return command, port

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()


def _started(
    command: Sequence[str], share: Mapping[str, str], log: Path, lock: int
) -> subprocess.Popen[bytes]:
    with write_errors(log):
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, **share},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own lock goes with it, and no other launch's.
            pass_fds=(lock,),
            # A group of its own: Ctrl-C of a terminal comes once.
            start_new_session=True,
        )
    finally:
        os.close(output)


def last_lines(log: Path) -> str:
    """The end of what a run has printed, in one line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


def _free_port(taken: set[int | None]) -> int:
    """A port of this machine that is free, and that no launch has which may not listen yet."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port: int = found.getsockname()[1]
        if port not in taken:
            return port
