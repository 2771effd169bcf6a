"""Which process of a run this is, as its launcher tells it in the environment."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process among those of a run.

    Attributes:
        rank: its number, from 0.
        local_rank: its number on its node.
        node: its node's number.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    node: int = 0

    @classmethod
    def here(cls) -> Rank:
        """This process; alone where no launcher says otherwise."""
        return cls(
            rank=_number("RANK", 0),
            world_size=_number("WORLD_SIZE", 1),
            local_rank=_number("LOCAL_RANK", 0),
            # torchrun calls a node a group.
            node=_number("NODE_RANK", _number("GROUP_RANK", 0)),
        )

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def name(self) -> str:
        """What a message calls the process: ``rank 1 (HOST, process 123)``."""
        return f"rank {self.rank} ({socket.gethostname()}, process {os.getpid()})"


def has_launcher() -> bool:
    """Whether a launcher started this process, and should outlive it."""
    return "RANK" in os.environ and "LOCAL_RANK" in os.environ


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def started_at(pid: int) -> int | None:
    """When a process of this machine was started, in clock ticks since the machine was; None if it
    has ended.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
