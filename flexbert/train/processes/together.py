"""A command's body on one of many processes: its error is printed once, and all end together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flexbert.errors import UserError, first_line
from flexbert.train.processes.rank import Rank
from flexbert.train.processes.run_errors import OthersFailedError, PeerError
from flexbert.train.processes.stop_request import StopRequest

if TYPE_CHECKING:
    from flexbert.train.processes.peers import Peers

# How long a process that fails looks for others to tell; they may not have come that far.
_FIND_SECONDS = 20.0
_FIRST_SECONDS = 1.0
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset|refused)|Broken pipe|[Ss]ocket|TCPStore")


def run_together(command: Callable[[], int]) -> int:
    """Run a command's body; an error of one process ends all of them, and is printed once a node.

    Signals that ask to stop are taken note of meanwhile, for the run that the body begins.

    Returns:
        The exit code, the same on every process.
    """
    with StopRequest():
        return _run_together(command)


def _run_together(command: Callable[[], int]) -> int:
    rank = Rank.here()
    if rank.world_size == 1:
        try:
            return command()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return error.exit_code
    try:
        return command()
    except OthersFailedError as error:
        return _end_as(error, rank)
    except UserError as error:
        return _end_all(str(error), error.exit_code, rank)
    except Exception as error:
        if (failure := _failure_behind(error)) is not None:
            return _end_as(failure, rank)
        if _LOST.search(str(error)):
            lost = _lost(rank)
            who = ", ".join(lost) or "another process"
            text = f"{who} ended, or cannot be reached ({first_line(error)})"
            return _end_all(text, PeerError.exit_code, rank, num_lost=len(lost))
        _end_all(f"{type(error).__name__}: {first_line(error)}", 1, rank)
        raise


def _end_all(text: str, exit_code: int, rank: Rank, num_lost: int = 0) -> int:
    """Tell the others why this process ends the run; whoever is first to do so prints it."""
    from torch.distributed import DistError

    from flexbert.train.processes.peers import join_peers

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
    from torch.distributed import DistError

    from flexbert.train.processes.peers import join_peers

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


def _failure_behind(error: Exception) -> OthersFailedError | None:
    """What another process said before it left a collective, on which this error followed."""
    from torch.distributed import DistError

    from flexbert.train.processes.peers import join_peers

    if not _LOST.search(str(error)):
        return None
    try:
        for _ in range(20):
            if (failure := join_peers(_FIND_SECONDS).failure()) is not None:
                return failure
            time.sleep(0.1)
    except DistError:
        pass
    return None


def _lost(rank: Rank) -> list[str]:
    """Those of the others that have ended or are silent."""
    from torch.distributed import DistError

    from flexbert.train.processes.beat import lost_processes
    from flexbert.train.processes.peers import join_peers

    with contextlib.suppress(DistError):
        return lost_processes(join_peers(_FIND_SECONDS))
    # The store is gone with the process that held it.
    return ["rank 0"]


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
