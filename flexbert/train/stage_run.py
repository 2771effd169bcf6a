"""A stage within its run: Composer's clock counts the run's updates and tokens, a stage its own."""

from __future__ import annotations

from dataclasses import dataclass

from composer import State, Timestamp

from flexbert.config.clock import StageClock, crossed
from flexbert.config.duration import Duration
from flexbert.config.recipe import Recipe
from flexbert.schedule.stages import Stage


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """
    Attributes:
        first_step, first_tokens: updates and real tokens of the run before the stage.
        microbatch_rows: most rows in one forward pass of a process, in training.
    """

    stage: Stage
    first_step: int
    first_tokens: int
    microbatch_rows: int

    @property
    def recipe(self) -> Recipe:
        return self.stage.recipe

    @property
    def max_duration(self) -> str:
        """Where on Composer's clock the stage ends."""
        duration = self.stage.duration
        before = self.first_tokens if duration.unit == "tok" else self.first_step
        return str(Duration(before + duration.value, duration.unit))

    def clock(self, timestamp: Timestamp) -> StageClock:
        """The stage's clock when Composer's shows ``timestamp``."""
        return self.stage.clock(
            tokens=int(timestamp.token.value) - self.first_tokens,
            updates=int(timestamp.batch.value) - self.first_step,
        )

    def clock_before(self, state: State) -> StageClock:
        """The stage's clock at the start of the update that has just ended."""
        assert state.previous_timestamp is not None, "an update has just ended"
        return self.clock(state.previous_timestamp)

    def completed(self, interval: Duration, state: State) -> bool:
        """Whether the update that has just ended completed an ``interval``, or the stage."""
        return completes(interval, self.clock_before(state), self.clock(state.timestamp))


def stage_is_over(state: State) -> bool:
    """Whether the stage that Composer trains has come to its end."""
    return state.max_duration is not None and state.timestamp >= state.max_duration


def completes(interval: Duration, before: StageClock, after: StageClock) -> bool:
    """Whether an update between these two clocks completes an ``interval``, or the stage."""
    return after.finished or crossed(interval, before, after)
