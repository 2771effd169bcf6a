"""Curves, and long ones in few points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from flexbert.metrics_file import Record

Unit = Literal["number", "count", "percent", "power"]
Look = Literal["line", "pale", "dots", "dashed"]
# More points than a picture is wide, and few enough for a page.
MOST_POINTS = 1500
# From here on a curve is noise to the eye, and its mean is drawn as well.
NOISY_POINTS = 400
NOISY = ("loss", "grad_norm", "update_rms")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """
    Attributes:
        x, y: float64, the same length; nan in ``y`` breaks the line.
        label: in the legend; None keeps it out.
    """

    x: np.ndarray
    y: np.ndarray
    color: str
    look: Look = "line"
    label: str | None = None

    def after(self, begin: float) -> Curve:
        """The part that begins at ``begin``."""
        return replace(self, x=self.x[self.x >= begin], y=self.y[self.x >= begin])


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal line."""

    y: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves with one axis of values.

    Attributes:
        unit: of the values, which decides how they are written.
        from_zero: whether the axis begins at zero.
        may_be_log: whether the axis may be logarithmic, where values span much.
    """

    title: str
    curves: Sequence[Curve]
    unit: Unit = "number"
    from_zero: bool = False
    may_be_log: bool = True
    levels: Sequence[Level] = ()

    @property
    def values(self) -> np.ndarray:
        """All finite values."""
        values = np.concatenate([curve.y for curve in self.curves] or [np.zeros(0)])
        return values[np.isfinite(values)]

    @property
    def is_log(self) -> bool:
        """Whether values span so much that the axis is logarithmic."""
        values = self.values
        if self.from_zero or not self.may_be_log or not len(values) or values.min() <= 0:
            return False
        return bool(values.max() > 30 * values.min())

    def after(self, begin: float) -> Panel:
        """The part that begins at ``begin``, without levels that are far from what it shows."""
        shown = replace(self, curves=[curve.after(begin) for curve in self.curves])
        values = shown.values
        if not len(values):
            return replace(shown, levels=())
        reach = max(np.ptp(values), 0.5 * np.abs(values).max())
        low, high = values.min() - reach, values.max() + reach
        return replace(shown, levels=[level for level in self.levels if low < level.y < high])


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place on the axis with a name: where a stage begins, what went wrong."""

    x: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Panels:
    """What is drawn of one run or several; the first panel is the largest.

    Attributes:
        axis: what the panels share for an axis.
        x_unit: of its values.
        begin, end: of what is shown; what lies before is there for who zooms out.
        stages: where each begins.
        troubles: by the kind of trouble, where it was.
    """

    title: str
    axis: str
    x_unit: Unit
    begin: float
    end: float
    panels: Sequence[Panel]
    stages: Sequence[Mark] = ()
    troubles: Mapping[str, Sequence[Mark]] = field(default_factory=dict)

    def needs_legend(self, panel: Panel) -> bool:
        """Whether a panel has curves that the first panel's legend does not name."""
        first = self.panels[0]
        labels = {curve.label for curve in panel.curves if curve.label}
        return panel is first or bool(labels - {curve.label for curve in first.curves})


def grouped(marks: Sequence[Mark], near: float) -> list[Mark]:
    """Marks with the names of those that are nearer than ``near`` to the first of them."""
    groups: list[Mark] = []
    for mark in marks:
        if groups and mark.x - groups[-1].x < near:
            groups[-1] = Mark(x=groups[-1].x, label=f"{groups[-1].label}, {mark.label}")
        else:
            groups.append(mark)
    return groups


def series(
    records: Sequence[Record], at: Callable[[Record], float], event: str, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """The places and values of one number; nan stands between two stages.

    Values jump from one stage to the next, and so may what is evaluated.
    """
    x: list[float] = []
    y: list[float] = []
    stage = None
    for record in records:
        if record.event == event and key in record.numbers:
            if stage not in (None, record.stage):
                x.append(at(record))
                y.append(math.nan)
            stage = record.stage
            x.append(at(record))
            y.append(record.numbers[key])
    return np.array(x, np.float64), np.array(y, np.float64)


def number_curves(
    records: Sequence[Record],
    at: Callable[[Record], float],
    event: str,
    key: str,
    color: str,
    look: Look = "line",
    label: str | None = None,
) -> list[Curve]:
    """A number's curve, and where it is long and uneven its mean before it."""
    x, y = series(records, at, event, key)
    if not len(x):
        return []
    if event == "eval" or len(x) < NOISY_POINTS or key not in NOISY:
        x, y = thinned(x, y)
        return [Curve(x=x, y=y, color=color, look=look, label=label)]
    raw_x, raw_y = thinned(x, y)
    mean_x, mean_y = thinned(x, smoothed(y, len(x) // 200))
    return [
        Curve(x=raw_x, y=raw_y, color=color, look="pale"),
        Curve(x=mean_x, y=mean_y, color=color, look=look, label=label),
    ]


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """A long curve in at most about ``most`` points that looks the same.

    Of each of equal parts the first smallest and largest value stay, and one nan where there is
    one, so that no spike and no break is lost.
    """
    if len(x) <= most:
        return x, y
    kept: set[int] = {0, len(x) - 1}
    bounds = np.linspace(0, len(x), most // 3 + 1).astype(int)
    for begin, end in itertools.pairwise(bounds):
        part = y[begin:end]
        finite = np.isfinite(part)
        if not finite.all():
            kept.add(begin + int(np.argmin(finite)))
        if finite.any():
            kept.add(begin + int(np.argmin(np.where(finite, part, np.inf))))
            kept.add(begin + int(np.argmax(np.where(finite, part, -np.inf))))
    indices = np.array(sorted(kept))
    return x[indices], y[indices]


def smoothed(y: np.ndarray, width: int) -> np.ndarray:
    """The mean over ``width`` neighbors on either side; what is not finite stays, and breaks it."""
    result = np.full(len(y), np.nan)
    finite = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(int)))
    for begin, end in edges.reshape(-1, 2):
        part = y[begin:end]
        sums = np.concatenate([[0.0], np.cumsum(part)])
        place = np.arange(len(part))
        # Towards the ends nearly as many on the one side as on the other, so that a steep
        # beginning is not bent; but some, so that the mean does not end in noise.
        reach = np.clip(np.minimum(place, place[::-1]), width // 8, width)
        first = np.maximum(place - reach, 0)
        last = np.minimum(place + reach + 1, len(part))
        result[begin:end] = (sums[last] - sums[first]) / (last - first)
    return result
