"""Where a process is in its run, so that those who wait for it can say what for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    Attributes:
        number: counts places; the same on every process at the same place.
        slow: whether it may take long: an order being built, a checkpoint being written.
        since: when it was reached, on this process's monotonic clock, in seconds.
    """

    number: int
    what: str
    slow: bool
    since: float


class Whereabouts:
    """The place of this process. The main thread moves it, the watching thread reads it."""

    def __init__(self) -> None:
        self.place = Place(number=0, what="starting", slow=True, since=time.monotonic())

    def reach(self, what: str, *, slow: bool = False) -> None:
        """A place that every process of the run comes to."""
        self.place = Place(
            number=self.place.number + 1, what=what, slow=slow, since=time.monotonic()
        )

    def go_on(self) -> None:
        """What is done here takes long, and goes on."""
        self.place = replace(self.place, since=time.monotonic())

    @contextlib.contextmanager
    def doing(self, what: str, *, slow: bool = False) -> Iterator[None]:
        """Something that others need not do: they wait where they are."""
        before = self.place
        self.place = Place(number=before.number, what=what, slow=slow, since=time.monotonic())
        try:
            yield
        finally:
            self.place = Place(
                number=self.place.number,
                what=before.what,
                slow=before.slow,
                since=time.monotonic(),
            )


WHEREABOUTS = Whereabouts()
"""There is one main thread, so there is one place."""
