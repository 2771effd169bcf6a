"""What can be made to go wrong in a process of a run, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "mark", "nan", "infinite", "jump", "exception", "user_error", "disk_full", "disk_free"
]
INJECTED = "injected by a test"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong on one rank.

    Attributes:
        kind: ``mark`` only tells that the moment is there, and waits a little.
        event: of Composer, at which it does: ``batch_start``, ``before_forward``, ...
        first, end: while so many updates of the run are finished: ``first <= finished < end``. A
            ``jump`` comes with data instead, whatever update reads them: where the update ends
            before one of the rows ``[first, end)`` of the stage's stream.
        microbatch: of the update, counted from 0; None is any.
    """

    kind: Kind
    rank: int
    event: str
    first: int
    end: int
    microbatch: int | None = None
