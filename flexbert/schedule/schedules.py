"""Schedules as plain functions of a stage's clock.

Each gives a fraction of a base value, of the learning rate or of whatever else is scheduled, for
the update that starts at the clock. W is the warmup, T the stage's length, n the progress.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flexbert.config.clock import StageClock
from flexbert.config.duration import Duration
from flexbert.config.fields import COMPUTATION, key
from flexbert.config.registry import register
from flexbert.config.training import ScheduleConfig
from flexbert.errors import ConfigError

DecayShape = Literal["one_minus_sqrt", "linear", "cosine"]

# Each maps the share of the decay that has passed, in [0, 1], to a value that falls from 1 to 0.
DECAY_SHAPES: dict[DecayShape, Callable[[float], float]] = {
    "one_minus_sqrt": lambda x: 1 - math.sqrt(x),
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
}
NONE = Duration(0, "tok")


def warmup_fraction(clock: StageClock, warmup: Duration) -> float:
    """``n / W`` up to W, then 1; 1 throughout without a warmup."""
    length = clock.length_of(warmup)
    return 1.0 if length == 0 else min(1.0, clock.elapsed_in(warmup) / length)


def decay_fraction(
    clock: StageClock, length: float, shape: DecayShape, begin: float, end: float
) -> float:
    """``end + (begin - end) * shape(x)``, x being the share of the stage's last ``length`` that has
    passed: ``begin`` until it starts, ``end`` after the stage's end."""
    if length == 0:
        return begin
    into = clock.elapsed_in(clock.duration) - (clock.duration.value - length)
    share = min(max(into / length, 0.0), 1.0)
    return end + (begin - end) * DECAY_SHAPES[shape](share)


@dataclass(frozen=True, kw_only=True)
class _DecayedConfig(ScheduleConfig):
    """Warmup, some course, and a decay at the end.

    Attributes:
        warmup: how long the value grows from 0 at the beginning.
        decay: how long it falls at the end.
        decay_shape: how it falls.
        final_fraction: what the decay ends at.
    """

    warmup: Duration = key(COMPUTATION, default=NONE)
    decay: Duration = key(COMPUTATION, default=NONE)
    decay_shape: DecayShape = key(COMPUTATION, default="one_minus_sqrt")
    final_fraction: float = key(COMPUTATION, default=0.0, at_least=0, at_most=1)

    def check(self, duration: Duration) -> None:
        if self.decay.value == 0 and self.final_fraction != 0:
            raise ConfigError(
                "final_fraction",
                f"{self.final_fraction} would do nothing without a decay: set schedule.decay",
            )
        if self.decay.value:
            _check_unit("decay", self.decay, duration)
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
        length = clock.length_of(self.decay)
        begin = clock.duration.value - length
        # The course goes on until the decay begins, and the decay starts from where it is then.
        course = self.course(clock, min(clock.elapsed_in(clock.duration), begin))
        decayed = decay_fraction(clock, length, self.decay_shape, course, self.final_fraction)
        return min(warmup_fraction(clock, self.warmup), decayed)

    @abstractmethod
    def course(self, clock: StageClock, progress: float) -> float:
        """The fraction between warmup and decay at ``progress``, in the stage's unit."""


@register("trapezoidal")
@dataclass(frozen=True, kw_only=True)
class Trapezoidal(_DecayedConfig):
    """Warmup, plateau, decay (Zhai et al. 2022; the 1-sqrt decay from Haegele et al. 2024).

    With D the decay and a the final fraction: ``n / W`` up to W, then 1, then
    ``a + (1 - a) * shape((n - (T - D)) / D)`` from ``T - D`` on, and ``a`` after T. A warmup or
    decay of 0 is none at all.
    """

    def course(self, clock: StageClock, progress: float) -> float:
        return 1.0


@register("inverse_sqrt")
@dataclass(frozen=True, kw_only=True)
class InverseSqrt(_DecayedConfig):
    """Inverse square root with a decay at the end, its cooldown (Zhai et al. 2022, Scaling ViTs).

    ``n / W`` up to W, then ``sqrt(s / (s + n - W))``, and over the last D from the value at
    ``T - D`` to the final fraction.

    Attributes:
        timescale: s; null is W, which is the ``sqrt(W / n)`` of Vaswani et al. 2017.
    """

    timescale: Duration | None = key(COMPUTATION, default=None)

    def check(self, duration: Duration) -> None:
        super().check(duration)
        _check_unit("warmup", self.warmup, duration)
        if self.timescale is not None:
            _check_unit("timescale", self.timescale, duration)
        if self._timescale.value == 0:
            raise ConfigError("timescale", "is needed where there is no warmup")
        end = StageClock(tokens=0, updates=0, duration=duration)
        lowest = self.course(end, duration.value - end.length_of(self.decay))
        if lowest < self.final_fraction:
            raise ConfigError(
                "final_fraction", f"{self.final_fraction} is above the {lowest:.3g} to decay from"
            )

    def course(self, clock: StageClock, progress: float) -> float:
        warmup, scale = clock.length_of(self.warmup), clock.length_of(self._timescale)
        return math.sqrt(scale / (scale + max(progress - warmup, 0.0)))

    @property
    def _timescale(self) -> Duration:
        return self.timescale or self.warmup


@register("cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine(ScheduleConfig):
    """Warmup, then half a cosine to the stage's end (Loshchilov and Hutter 2017).

    With a the final fraction: ``n / W`` up to W, then
    ``a + (1 - a) * (1 + cos(pi (n - W) / (T - W))) / 2``, and ``a`` after T.

    Attributes:
        warmup: how long the value grows from 0 at the beginning.
        final_fraction: what it ends at.
    """

    warmup: Duration = key(COMPUTATION, default=NONE)
    final_fraction: float = key(COMPUTATION, default=0.0, at_least=0, at_most=1)

    def check(self, duration: Duration) -> None:
        _check_unit("warmup", self.warmup, duration)
        start = StageClock(tokens=0, updates=0, duration=duration)
        if start.length_of(self.warmup) >= duration.value:
            raise ConfigError("warmup", f"{self.warmup} leaves nothing of the stage's {duration}")

    def multiplier(self, clock: StageClock) -> float:
        length = clock.duration.value - clock.length_of(self.warmup)
        decayed = decay_fraction(clock, length, "cosine", 1.0, self.final_fraction)
        return min(warmup_fraction(clock, self.warmup), decayed)


@register("constant")
@dataclass(frozen=True, kw_only=True)
class Constant(ScheduleConfig):
    """The base value throughout."""

    def check(self, duration: Duration) -> None:
        """Every length goes with a constant."""

    def multiplier(self, clock: StageClock) -> float:
        return 1.0


def _check_unit(name: str, span: Duration, duration: Duration) -> None:
    if span.value and span.unit not in (duration.unit, "dur"):
        raise ConfigError(
            name,
            f"{span} cannot be placed in a stage of {duration}: give it in {duration.unit} or as a "
            "fraction (dur)",
        )
