"""Losses and gradient norms that jump, found by how far they lie above those before them."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from flexbert.config.health import SpikesConfig

# Makes the median absolute deviation of normal numbers their standard deviation.
_MAD_TO_DEVIATION = 1.4826
# Losses that hardly differ would make every other one a spike: at least this part of the median.
_LEAST_DEVIATION = 0.005


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A value that lies far above those before it.

    Attributes:
        name: ``loss`` or ``grad_norm``.
        median: of the values before.
        deviations: how many robust standard deviations lie between.
    """

    name: str
    value: float
    median: float
    deviations: float

    def __str__(self) -> str:
        return (
            f"{self.name} {self.value:.4g}, {self.deviations:.1f} robust standard deviations "
            f"above the median {self.median:.4g}"
        )


class SpikeDetector:
    """Compares every update with those before it.

    Norms of gradients are compared by their logarithms, which is how they vary.
    """

    def __init__(
        self, config: SpikesConfig, losses: Iterable[float] = (), norms: Iterable[float] = ()
    ) -> None:
        """
        Args:
            losses, norms: of the updates before, oldest first.
        """
        self.config = config
        self.losses = deque(losses, maxlen=config.window)
        self.norms = deque(norms, maxlen=config.window)

    def see(self, loss: float, norm: float) -> Spike | None:
        """Take in an update's finite values; the spike that it is, if it is one."""
        found = self._jump("loss", loss, list(self.losses), as_log=False)
        found = found or self._jump("grad_norm", norm, list(self.norms), as_log=True)
        self.losses.append(loss)
        self.norms.append(norm)
        return found

    def _jump(self, name: str, value: float, before: list[float], *, as_log: bool) -> Spike | None:
        if len(before) < self.config.window // 2:
            return None
        deviations = robust_z(
            math.log(max(value, _TINY)) if as_log else value,
            [math.log(max(one, _TINY)) for one in before] if as_log else before,
        )
        if deviations <= self.config.threshold:
            return None
        median = statistics.median(before)
        return Spike(name=name, value=value, median=median, deviations=deviations)


_TINY = 1e-30


def robust_z(value: float, before: list[float]) -> float:
    """How many robust standard deviations ``value`` lies above the median of those before.

    Median and median absolute deviation stand for mean and standard deviation, so that earlier
    spikes hide no later one (Iglewicz and Hoaglin 1993, "How to detect and handle outliers").
    """
    median = statistics.median(before)
    deviation = statistics.median(abs(one - median) for one in before)
    scale = max(_MAD_TO_DEVIATION * deviation, _LEAST_DEVIATION * abs(median), _TINY)
    return (value - median) / scale
