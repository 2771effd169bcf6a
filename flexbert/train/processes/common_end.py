"""How the processes of a run end together, and which of them says why."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time

from torch.distributed import DistError

from flexbert.errors import UserError, first_line
from flexbert.train.processes.beat import lost_processes
from flexbert.train.processes.peers import Peers, join_peers
from flexbert.train.processes.rank import Rank
from flexbert.train.processes.run_errors import OthersFailedError, PeerError

# How long a process that fails looks for others to tell; they may not have come that far.
_FIND_SECONDS = 20.0
_FIRST_SECONDS = 1.0
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset|refused)|Broken pipe|[Ss]ocket|TCPStore")


def end_with(error: Exception, rank: Rank) -> int:
    """Let all processes end after an error of this one, or of the one that it follows from.

    Returns:
        The exit code, the same on every process.

    Raises:
        Exception: the error itself, once the others know of it, where it is nobody's mistake.
    """
    if isinstance(error, OthersFailedError):
        return _end_as(error, rank)
    if isinstance(error, UserError):
        return _end_all(str(error), error.exit_code, rank)
    # A store or a collective that fails does so because of another process.
    is_of_a_peer = isinstance(error, DistError) or _LOST.search(str(error)) is not None
    if is_of_a_peer and (failure := _failure_behind()) is not None:
        return _end_as(failure, rank)
    if is_of_a_peer:
        lost = _lost()
        who = ", ".join(lost) or "another process"
        text = f"{who} ended, or cannot be reached ({first_line(error)})"
        return _end_all(text, PeerError.exit_code, rank, num_lost=len(lost))
    _end_all(f"{type(error).__name__}: {first_line(error)}", 1, rank)
    raise error


def _end_all(text: str, exit_code: int, rank: Rank, num_lost: int = 0) -> int:
    """Tell the others why this process ends the run; whoever is first to do so prints it."""
    if not os.environ.get("MASTER_ADDR"):
        _print(f"error in {rank.name}: {text}")  # nobody can be told
        return exit_code
    if not rank.is_first:
        # Where all make the same mistake, the first process is to tell: a launcher shows what it
        # prints.
        time.sleep(_FIRST_SECONDS)
    try:
        peers = join_peers(_FIND_SECONDS)
        if not peers.fail(text, exit_code) and (failure := peers.failure()) is not None:
            return _end_as(failure, rank)
        _print(f"error in {rank.name}: {text}")
        peers.acknowledge()
        _linger(peers, num_lost)
    except DistError:
        # The others have ended already, or never came.
        _print(f"error in {rank.name}: {text}")
    return exit_code


def _end_as(failure: OthersFailedError, rank: Rank) -> int:
    """End as another process has; on another node than its own, say why."""
    if failure.node != rank.node and rank.local_rank == 0:
        _print(failure.text)
    with contextlib.suppress(DistError):
        peers = join_peers(_FIND_SECONDS)
        peers.acknowledge()
        _linger(peers)
    return failure.exit_code


def _linger(peers: Peers, num_lost: int = 0) -> None:
    """A launcher that is in a hurry cuts it short, and the exit code stays."""
    hurried: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: hurried.append(number))
    peers.linger(lambda: bool(hurried), num_lost)


def _failure_behind() -> OthersFailedError | None:
    """What another process said before it left a collective, if it says it soon."""
    with contextlib.suppress(DistError):
        for _ in range(20):
            if (failure := join_peers(_FIND_SECONDS).failure()) is not None:
                return failure
            time.sleep(0.1)
    return None


def _lost() -> list[str]:
    """Those of the others that have ended or are silent."""
    with contextlib.suppress(DistError):
        return lost_processes(join_peers(_FIND_SECONDS))
    # The store is gone with the process that held it.
    return ["rank 0"]


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
