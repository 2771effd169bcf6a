"""One launch of a run that something is done to, and what must hold when it has ended."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.faults import Fault
from tests.integration.launcher import SHOW_STACKS, Run

PEER_SECONDS = 8
# Beyond its limit: for a launch that is looked at with all else that a busy machine does.
MORE_SECONDS = 60
_LAST_LINES = 6
_CAUSE = re.compile(r"^(error\b|stopped on request\b)")

Codes = tuple[int | None, ...]


class PromiseError(AssertionError):
    """Something that a run promises did not hold."""


@dataclass(kw_only=True)
class Launch:
    """What is done to one launch, and how it may end.

    Attributes:
        due: whether the moment has come to act; None does nothing from outside.
        act: done once, then.
        endings: exit codes by rank that are right, besides 0 on all where the run finished first.
        cause: what the one line that tells why must match; None where nobody is left to tell.
        says: what the output must have somewhere.
        own: overrides that one rank alone has.
        faults: inside its processes.
        has_traceback: of the exception that was injected.
    """

    endings: Sequence[Codes]
    cause: str | None = None
    due: Callable[[], bool] | None = None
    act: Callable[[Run], None] = lambda run: None
    says: str = ""
    own: Mapping[int, Sequence[str]] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    has_traceback: bool = False
    num_workers: int = 0

    def watch(self, run: Run) -> tuple[Codes, bool]:
        """Act when it is due, and wait for the end.

        Returns:
            Exit codes by rank, and whether anything was done: the moment may not have come.

        Raises:
            PromiseError: if a process hangs.
        """
        deadline = time.monotonic() + PEER_SECONDS + MORE_SECONDS
        fired = self.due is None
        while not fired and None in run.exit_codes() and time.monotonic() < deadline:
            assert self.due is not None
            if self.due():
                fired = True
                self.act(run)
            time.sleep(0.002)
        codes = tuple(run.wait_for_all(PEER_SECONDS + MORE_SECONDS))
        if None in codes:
            for pid, code in zip(run.pids, codes, strict=True):
                if code is None:
                    os.kill(pid, SHOW_STACKS)
            time.sleep(1)
            for pid in run.pids:
                kill_group(pid)
            raise PromiseError(f"a process hangs: exit codes {codes}")
        return codes, fired

    def check(self, codes: Codes, output: str) -> None:
        """Raises: PromiseError if it did not end as it should, or does not say why."""
        if codes not in self.endings:
            raise PromiseError(f"ended with {codes}, not one of {list(self.endings)}")
        if not re.search(self.says, output):
            raise PromiseError(f"does not say {self.says!r}")
        tracebacks = output.count("Traceback (most recent call last)")
        if tracebacks != self.has_traceback:
            raise PromiseError(f"{tracebacks} tracebacks")
        if self.cause is None or self.has_traceback or all(code == -9 for code in codes):
            return
        lines = output.splitlines()
        causes = [line for line in lines if _CAUSE.match(line)]
        if len(causes) != 1 or not re.search(self.cause, causes[0]):
            raise PromiseError(f"causes {causes}, not one that matches {self.cause!r}")
        if causes[0] not in lines[-_LAST_LINES:]:
            raise PromiseError(f"the cause is not in the last lines: {causes[0]}")


def kill_group(pid: int) -> None:
    """Kill a process, and what it has started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def group_of(pid: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        if int(group) == pid and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def require_gone(pids: Sequence[int], seconds: float = 10.0) -> None:
    """Raises: PromiseError if processes of these groups outlive their leaders."""
    deadline = time.monotonic() + seconds
    while left := [one for pid in pids for one in group_of(pid)]:
        if time.monotonic() > deadline:
            for pid in pids:
                kill_group(pid)
            raise PromiseError(f"processes are left behind: {left}")
        time.sleep(0.05)
