"""A command's body on one of many processes: its error is printed once, and all end together."""

from __future__ import annotations

from collections.abc import Callable

from flexbert.errors import run_command
from flexbert.train.processes.rank import Rank
from flexbert.train.processes.stop_request import StopRequest


def run_together(command: Callable[[], int]) -> int:
    """Run a command's body; an error of one process ends all of them, and is printed once a node.

    Signals that ask to stop are taken note of meanwhile, for the run that the body begins.

    Returns:
        The exit code, the same on every process.
    """
    rank = Rank.here()
    with StopRequest():
        return run_command(command) if rank.world_size == 1 else _run_with_others(command, rank)


def _run_with_others(command: Callable[[], int], rank: Rank) -> int:
    try:
        return command()
    except Exception as error:
        # It imports torch, which takes a second: no mistake of a single process waits for it.
        from flexbert.train.processes.common_end import end_with

        return end_with(error, rank)
