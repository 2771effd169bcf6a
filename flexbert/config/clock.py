"""Where a stage stands, and spans of it measured in tokens, updates or fractions."""

from __future__ import annotations

from dataclasses import dataclass

from flexbert.config.duration import Duration


@dataclass(frozen=True, kw_only=True)
class StageClock:
    """A stage's progress at the start of an update.

    Attributes:
        tokens: real tokens trained on since the stage began.
        updates: optimizer updates since the stage began.
        duration: the stage's length, in tokens or updates.
    """

    tokens: int
    updates: int
    duration: Duration

    @property
    def finished(self) -> bool:
        return self.elapsed_in(self.duration) >= self.duration.value

    def elapsed_in(self, span: Duration) -> int:
        """Progress in the unit that ``span`` is counted in (a fraction counts in the stage's)."""
        return self.tokens if span.of(self.duration).unit == "tok" else self.updates

    def length_of(self, span: Duration) -> float:
        """``span`` as a number of the unit that :meth:`elapsed_in` reports."""
        return span.of(self.duration).value


def crossed(interval: Duration, before: StageClock, after: StageClock) -> bool:
    """Whether a multiple of ``interval`` lies in ``(before, after]``."""
    length = before.length_of(interval)
    return before.elapsed_in(interval) // length < after.elapsed_in(interval) // length
