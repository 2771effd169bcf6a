"""Trains the runs of a sweep, next to any other processes that do.

As in a search over tasks there is no queue: a process takes the first run that is neither finished
nor locked. A lock is inherited by the launch that it is for, so that one whose parent was killed
keeps its run until it has ended too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import flexbert
from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_errors
from flexbert.files.file_lock import file_lock
from flexbert.report.recorded_run import recorded_recipe
from flexbert.sweeps.runs import SweepRun
from flexbert.tasks.watching import run_is_finished
from flexbert.train.processes.run_errors import DONE, PREEMPTED
from flexbert.train.run_folder import refuse_changed_recipe

LOCKS, LOGS = "locks", "logs"
MAIN = Path(flexbert.__file__).parent.parent / "main.py"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS = 1.0
# Of what a run printed, in a message about its end.
_LAST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A launch of a run that this process has made.

    Attributes:
        code: with which it ended.
        log: the file of what it printed.
        was_enough: whether it was stopped before its end, for good.
    """

    run: SweepRun
    code: int
    seconds: float
    log: Path
    was_enough: bool = False


def check_begun(runs: Sequence[SweepRun]) -> None:
    """See that what was begun of a sweep was begun with the same recipes.

    Raises:
        UserError: naming the keys that changed.
    """
    for run in runs:
        _, begun_with = recorded_recipe(run.folder)
        if begun_with:
            refuse_changed_recipe(run.folder, begun_with, run.recipe.resolved)


def train_runs(
    runs: Sequence[SweepRun],
    base: Path,
    folder: Path,
    tell: Callable[[Launched], None],
    *,
    num_processes: int = 1,
    is_enough: Callable[[SweepRun], bool] | None = None,
) -> int:
    """Train runs until all are finished or have failed, in their order.

    Args:
        base: the recipe that they are of.
        folder: of the sweep.
        tell: is called after each launch of this process.
        num_processes: of each run.
        is_enough: is asked again and again while a run trains; once it says so, the run is stopped
            with a checkpoint and not taken up again.

    Returns:
        0 when all are finished, 75 when this process was told to stop, otherwise the code of the
        first run that has failed.
    """
    for name in (LOCKS, LOGS):
        make_folder(folder / name)
    failed: dict[str, int] = {}
    enough: set[str] = set()
    with Signals() as signals:
        while not signals.came:
            ended = enough.union(failed)
            left = [run for run in runs if run.name not in ended and not is_finished(run)]
            if not left:
                return next(iter(failed.values()), DONE)
            launched = _train_first_free(left, base, folder, signals, num_processes, is_enough)
            if launched is None:
                time.sleep(_LOOK_SECONDS)
                continue
            if launched.was_enough:
                enough.add(launched.run.name)
            elif launched.code == PREEMPTED:
                signals.came = True
            elif launched.code != DONE:
                failed[launched.run.name] = launched.code
            tell(launched)
    return PREEMPTED


def last_lines(log: Path) -> str:
    """The end of what a run has printed, in one line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


class Signals:
    """Passes SIGTERM and Ctrl-C on to the launch there is, which saves a checkpoint and ends."""

    def __init__(self) -> None:
        self.came = False
        self.launch: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._pass_on) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self.launch is not None and self.launch.poll() is None:
            self.launch.send_signal(signal.SIGTERM)


def _train_first_free(
    runs: Sequence[SweepRun],
    base: Path,
    folder: Path,
    signals: Signals,
    num_processes: int,
    is_enough: Callable[[SweepRun], bool] | None,
) -> Launched | None:
    """Train the first of these runs that no other process trains; None if there is none."""
    for run in runs:
        with file_lock(folder / LOCKS / run.name, wait=False, inherited=True) as is_held:
            # It may have been finished, and unlocked, since it was looked at.
            if is_held and not is_finished(run):
                return _launch(run, base, folder, signals, num_processes, is_enough)
    return None


def _launch(
    run: SweepRun,
    base: Path,
    folder: Path,
    signals: Signals,
    num_processes: int,
    is_enough: Callable[[SweepRun], bool] | None,
) -> Launched:
    script = [str(MAIN), str(base), *run.overrides]
    command = [sys.executable, *script]
    if num_processes > 1:
        launcher = [sys.executable, "-m", "flexbert.commands", "launch", "-n", str(num_processes)]
        command = [*launcher, *script]
    log = folder / LOGS / f"{run.name}.log"
    begun = time.perf_counter()
    with _opened(log) as output:
        signals.launch = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # The lock goes with it. A group of its own: Ctrl-C of a terminal comes once.
            close_fds=False,
            start_new_session=True,
        )
        if signals.came:
            signals.launch.send_signal(signal.SIGTERM)
        was_told = _wait(signals.launch, run, is_enough)
        code = signals.launch.wait()
        signals.launch = None
    return Launched(
        run=run,
        code=code,
        seconds=time.perf_counter() - begun,
        log=log,
        was_enough=was_told and code == PREEMPTED,
    )


def _wait(
    launch: subprocess.Popen[bytes],
    run: SweepRun,
    is_enough: Callable[[SweepRun], bool] | None,
) -> bool:
    """Wait for a launch, or until it is enough; whether it was."""
    while is_enough is not None and launch.poll() is None:
        if is_enough(run):
            launch.send_signal(signal.SIGTERM)
            return True
        with suppress(subprocess.TimeoutExpired):
            launch.wait(_LOOK_SECONDS)
    return False


@contextmanager
def _opened(log: Path) -> Iterator[int]:
    with write_errors(log):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_finished(run: SweepRun) -> bool:
    """Whether a run's last stage has ended."""
    try:
        return run_is_finished(run.folder)
    except UserError:
        # A checkpoint that cannot be read: the launch sets it aside, and says so.
        return False
