"""Where labels of dots go, so that none lies on another, on what is drawn or outside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flexbert.pictures import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In points, from the dot; and directions, to the right first, corners before above and below.
_DISTANCES = (5, 10, 18, 28, 40, 54, 70)
_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))
# A label that is further from its dot has a line to it.
_NEAR = 11
# Half of the room that a place of what is drawn takes.
_REACH = 2.5
_FONT = 8

# Left, bottom, right, top, in pixels.
Box = tuple[float, float, float, float]


def place_labels(
    axes: Axes,
    dots: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colors: Sequence[str],
    drawn: Sequence[tuple[float, float]],
) -> None:
    """Write a label next to each dot; the picture's layout is final from here on.

    One after the other goes to the nearest place that is free, or else to that which covers least.

    Args:
        dots: in the units of the axes.
        drawn: places to be kept free, the dots among them.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    window = axes.get_window_extent()
    inside: Box = window.x0, window.y0, window.x1, window.y1
    reach = _REACH * scale
    taken: list[Box] = [
        (x - reach, y - reach, x + reach, y + reach)
        for x, y in (axes.transData.transform(place).tolist() for place in drawn)
    ]
    for dot, label, color in zip(dots, labels, colors, strict=True):
        x, y = axes.transData.transform(dot).tolist()
        text = axes.annotate(label, dot, fontsize=_FONT, color=color)
        extent = text.get_window_extent()
        text.remove()
        box = _best_place((x, y), (extent.width, extent.height), inside, np.array(taken), scale)
        taken.append(box)
        far = _distance(box, x, y) > _NEAR * scale
        axes.annotate(
            label,
            dot,
            xytext=((box[0] - x) / scale, (box[1] - y) / scale),
            textcoords="offset points",
            fontsize=_FONT,
            color=color,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6} if far else None,
        )


def _best_place(
    dot: tuple[float, float],
    size: tuple[float, float],
    inside: Box,
    taken: np.ndarray,
    scale: float,
) -> Box:
    """The first free box around a dot, or the one that covers least.

    Args:
        taken: boxes ``[N, 4]``.
        scale: pixels of a point.
    """
    best: tuple[float, Box] | None = None
    for distance, (right, up) in itertools.product(_DISTANCES, _DIRECTIONS):
        left = dot[0] + right * distance * scale - size[0] * (1 - right) / 2
        bottom = dot[1] + up * distance * scale - size[1] * (1 - up) / 2
        box = (left, bottom, left + size[0], bottom + size[1])
        outside = size[0] * size[1] - float(_shared(box, np.array([inside])).sum())
        covered = outside + float(_shared(box, taken).sum())
        if best is None or covered < best[0]:
            best = covered, box
        if covered <= 0:
            break
    assert best is not None
    return best[1]


def _shared(box: Box, others: np.ndarray) -> np.ndarray:
    """The area that a box has in common with each of others ``[N, 4]``."""
    if not len(others):
        return np.zeros(0)
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def _distance(box: Box, x: float, y: float) -> float:
    return math.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3]))
