"""How long the rest of a run takes, from its recent pace.

Time goes by tokens: an update of a batch warmup is shorter than those after it. The rest is

    tokens left x seconds a token
    + evaluations left x seconds each
    + checkpoints left x seconds each

where a stage to come has the present one's seconds a token, scaled by what its tokens cost.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence

from flexbert.config.clock import StageClock
from flexbert.config.duration import Duration
from flexbert.schedule.stages import Stage

RECENT_SECONDS = 600.0
_LEAST_SAMPLES = 20
_SAMPLE_SECONDS = 1.0
# A sample that took more times as long as the median counts as this: a hiccup is no pace.
_MOST_TIMES = 5.0


class Pace:
    """Seconds a token over the last ten minutes of updates, and no fewer than twenty samples.

    Updates that are shorter than a second are taken together. The first update is left out: it
    starts the loader and tunes kernels.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float]] = deque()
        self._open = (0, 0.0)
        self._num_updates = 0

    def add(self, tokens: int, seconds: float) -> None:
        """An update of this many tokens took so long."""
        self._num_updates += 1
        if self._num_updates == 1:
            return
        self._open = self._open[0] + tokens, self._open[1] + seconds
        if self._open[1] < _SAMPLE_SECONDS:
            return
        self._samples.append(self._open)
        self._open = 0, 0.0
        total = sum(seconds for _, seconds in self._samples)
        while len(self._samples) > _LEAST_SAMPLES and total - self._samples[0][1] > RECENT_SECONDS:
            total -= self._samples.popleft()[1]

    @property
    def seconds_per_token(self) -> float | None:
        """None before the second update."""
        samples = [sample for sample in (*self._samples, self._open) if sample[0]]
        if not samples:
            return None
        median = statistics.median(seconds / tokens for tokens, seconds in samples)
        counted = (min(s, _MOST_TIMES * median * tokens) for tokens, s in samples)
        return sum(counted) / sum(tokens for tokens, _ in samples)


class TimeLeft:
    """Estimates what is left of a run, in one launch.

    Attributes:
        pace: of the stage's updates, evaluations and checkpoints apart.
    """

    def __init__(self, stages: Sequence[Stage], index: int, costs: Mapping[str, float]) -> None:
        """
        Args:
            stages: of the whole run.
            index: of the one that is trained.
            costs: what a token costs in each stage from that one on, in any unit.
        """
        self.stage, self.later = stages[index], stages[index + 1 :]
        self.before = sum(stage.nominal_tokens for stage in stages[:index])
        self.costs = costs
        self.pace = Pace()
        self._evaluations: deque[float] = deque(maxlen=5)
        self._checkpoints: deque[float] = deque(maxlen=5)
        self._tokens = self._positions = 0

    def add_update(self, tokens: int, positions: int, seconds: float) -> None:
        """An update had these tokens in rows with room for ``positions``, and took so long."""
        self.pace.add(tokens, seconds)
        self._tokens += tokens
        self._positions += positions

    def add_evaluation(self, seconds: float) -> None:
        """An evaluation took so long."""
        self._evaluations.append(seconds)

    def add_checkpoint(self, seconds: float) -> None:
        """Saving a checkpoint took so long."""
        self._checkpoints.append(seconds)

    def seconds(self, clock: StageClock) -> float | None:
        """What is left when the stage's clock shows this; None while there is no pace yet.

        Evaluations and checkpoints count once one was seen.
        """
        each = self.pace.seconds_per_token
        if each is None:
            return None
        left = self._left_of_stage(clock) * each
        left += self._occasions(self.stage, clock)
        own = self.costs[self.stage.name]
        for stage in self.later:
            tokens = stage.nominal_tokens * self._fill_of(stage)
            left += tokens * each * self.costs[stage.name] / own
            left += self._occasions(stage, stage.clock(tokens=0, updates=0))
        return left

    def fraction(self, clock: StageClock) -> float:
        """How much of the run is done, by tokens."""
        left = self._left_of_stage(clock)
        left += sum(stage.nominal_tokens * self._fill_of(stage) for stage in self.later)
        done = self.before + clock.tokens
        return 1.0 if done + left == 0 else done / (done + left)

    def _left_of_stage(self, clock: StageClock) -> float:
        if self.stage.duration.unit == "tok":
            return max(0.0, self.stage.duration.value - clock.tokens)
        rows_before = self.stage.batches.rows_before
        rows = rows_before(int(self.stage.duration.value)) - rows_before(clock.updates)
        return max(0, rows) * self.stage.recipe.data.row_length * self._fill

    @property
    def _fill(self) -> float:
        """Tokens of a position of the stage's rows, as far as was seen."""
        return self._tokens / self._positions if self._positions else 1.0

    def _fill_of(self, stage: Stage) -> float:
        """Real tokens of a nominal one: a stage in tokens ends at that many real ones."""
        return 1.0 if stage.duration.unit == "tok" else self._fill

    def _occasions(self, stage: Stage, clock: StageClock) -> float:
        """Seconds of the evaluations and checkpoints until the stage's end."""
        recipe = stage.recipe
        return sum(
            statistics.median(seen) * occasions(interval, clock, stage)
            for seen, interval in (
                (self._evaluations, recipe.evaluation.interval),
                (self._checkpoints, recipe.checkpoints.interval),
            )
            if seen
        )


def occasions(interval: Duration, clock: StageClock, stage: Stage) -> int:
    """How often an interval is still completed in a stage, the stage's own end among them."""
    if clock.finished:
        return 0
    end = stage.clock(tokens=stage.nominal_tokens, updates=stage.nominal_updates)
    length = clock.length_of(interval)
    at_end = end.elapsed_in(interval)
    completed = int(at_end // length - clock.elapsed_in(interval) // length)
    return max(1, completed + (at_end % length > 0))
