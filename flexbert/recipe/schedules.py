"""Learning-rate schedules as plain functions of a stage's clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flexbert.config.duration import Duration
from flexbert.config.registry import register
from flexbert.config.training import ScheduleConfig
from flexbert.errors import ConfigError
from flexbert.recipe.clock import StageClock

DecayShape = Literal["one_minus_sqrt", "linear", "cosine"]

# Each maps the share of the decay that has passed, in [0, 1], to a value that falls from 1 to 0.
DECAY_SHAPES: dict[DecayShape, Callable[[float], float]] = {
    "one_minus_sqrt": lambda x: 1 - math.sqrt(x),
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
}


@register("trapezoidal")
@dataclass(frozen=True, kw_only=True)
class Trapezoidal(ScheduleConfig):
    """Warmup, plateau, decay (Zhai et al. 2022; the 1-sqrt decay from Haegele et al. 2024).

    With n the progress, W the warmup, T the stage's length, D the decay and a the final fraction:
    ``n / W`` up to W, then 1, then ``a + (1 - a) * shape((n - (T - D)) / D)`` from ``T - D`` on,
    and ``a`` after T. A warmup or decay of 0 is none at all.
    """

    warmup: Duration = Duration(0, "tok")
    decay: Duration = Duration(0, "tok")
    decay_shape: DecayShape = "one_minus_sqrt"
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.final_fraction <= 1:
            raise ConfigError(
                "final_fraction", f"must lie between 0 and 1, got {self.final_fraction}"
            )

    def check(self, duration: Duration) -> None:
        if self.decay.value and self.decay.unit not in (duration.unit, "dur"):
            raise ConfigError(
                "decay",
                f"{self.decay} cannot be counted back from the end of {duration}: "
                f"give it in {duration.unit} or as a fraction (dur)",
            )
        if self.decay.value == 0 and self.final_fraction != 0:
            raise ConfigError(
                "final_fraction",
                f"{self.final_fraction} would do nothing without a decay: set schedule.decay",
            )
        start = StageClock(tokens=0, updates=0, duration=duration)
        if self.warmup.unit in (duration.unit, "dur"):
            total = start.length_of(self.warmup) + start.length_of(self.decay)
            if total > duration.value:
                raise ConfigError(
                    "warmup",
                    f"warmup {self.warmup} and decay {self.decay} are longer together than the "
                    f"stage's {duration}",
                )

    def multiplier(self, clock: StageClock) -> float:
        return min(self._warmup(clock), self._decay(clock))

    def _warmup(self, clock: StageClock) -> float:
        length = clock.length_of(self.warmup)
        return 1.0 if length == 0 else min(1.0, clock.elapsed_in(self.warmup) / length)

    def _decay(self, clock: StageClock) -> float:
        length = clock.length_of(self.decay)
        if length == 0:
            return 1.0
        into = clock.elapsed_in(clock.duration) - (clock.duration.value - length)
        share = min(max(into / length, 0.0), 1.0)
        shape = DECAY_SHAPES[self.decay_shape]
        return self.final_fraction + (1 - self.final_fraction) * shape(share)


@register("constant")
@dataclass(frozen=True, kw_only=True)
class Constant(ScheduleConfig):
    """The base value throughout."""

    def check(self, duration: Duration) -> None:
        """Every length goes with a constant."""

    def multiplier(self, clock: StageClock) -> float:
        return 1.0
