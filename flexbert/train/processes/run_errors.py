"""How a run ends that does not finish: exit codes, and errors that no recipe is to blame for."""

from __future__ import annotations

from flexbert.errors import UserError

DONE, PREEMPTED = 0, 75


class NumbersError(UserError):
    """Training was stopped because its numbers went bad: the same command would go bad again."""

    exit_code = 3


class PeerError(UserError):
    """A process was lost, or not heard from in time: the same command goes on."""

    exit_code = 71


class OthersFailedError(Exception):
    """Another process ended the run; it has said why.

    Args:
        rank, node: of the process.
        text: its message.
        exit_code: what every process ends with.
    """

    def __init__(self, rank: int, node: int, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.rank = rank
        self.node = node
        self.text = text
        self.exit_code = exit_code
