"""Where labels of dots go, so that none lies on another, on a dot or outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flexbert.pictures import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# In points, from the dot; and directions, to the right first.
_DISTANCES = (7, 14, 24, 36, 50, 66)
_DIRECTIONS = tuple(math.radians(angle) for angle in (0, 180, 90, -90, 45, -45, 135, -135))
# A label that is further from its dot has a line to it.
_NEAR = 10
_DOT = 3


def place_labels(
    axes: Axes,
    dots: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colors: Sequence[str],
    drawn: Sequence[tuple[float, float]],
) -> None:
    """Write a label next to each dot; the picture's layout is final from here on.

    Args:
        dots: in the units of the axes.
        drawn: places to be kept free, the dots among them.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    reach = _DOT * scale
    inside = axes.get_window_extent()
    places = [tuple(map(float, axes.transData.transform(dot))) for dot in dots]
    taken = [
        Bbox.from_bounds(x - reach, y - reach, 2 * reach, 2 * reach)
        for x, y in map(axes.transData.transform, drawn)
    ]
    for place, dot, label, color in zip(places, dots, labels, colors, strict=True):
        best: tuple[float, float, float, Bbox] | None = None
        text = axes.annotate(label, dot, fontsize=8, color=color)
        size = text.get_window_extent()
        text.remove()
        for distance in _DISTANCES:
            for angle in _DIRECTIONS:
                dx, dy = distance * math.cos(angle) * scale, distance * math.sin(angle) * scale
                left = place[0] + dx - size.width * (1 - math.cos(angle)) / 2
                bottom = place[1] + dy - size.height * (1 - math.sin(angle)) / 2
                box = Bbox.from_bounds(left, bottom, size.width, size.height)
                lost = _outside(box, inside) + sum(_shared(box, other) for other in taken)
                if best is None or lost < best[0]:
                    best = lost, left, bottom, box
            if best is not None and best[0] == 0:
                break
        assert best is not None
        _, left, bottom, box = best
        taken.append(box)
        offset = ((left - place[0]) / scale, (bottom - place[1]) / scale)
        far = _distance(box, place) > _NEAR * scale
        axes.annotate(
            label,
            dot,
            xytext=offset,
            textcoords="offset points",
            fontsize=8,
            color=color,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6} if far else None,
        )


def _shared(one: Bbox, other: Bbox) -> float:
    """The area that two boxes have in common."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def _outside(box: Bbox, inside: Bbox) -> float:
    return float(box.width * box.height) - _shared(box, inside)


def _distance(box: Bbox, place: Sequence[float]) -> float:
    dx = max(box.x0 - place[0], 0.0, place[0] - box.x1)
    dy = max(box.y0 - place[1], 0.0, place[1] - box.y1)
    return math.hypot(dx, dy)
