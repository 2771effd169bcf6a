"""The curves of a sweep's runs in one picture: by tokens, FLOPs and time, a color a point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flexbert.errors import shown
from flexbert.pictures import GREY, count_ticks, number_ticks, picture, power_ticks, tick_formatter
from flexbert.sweeps.outcomes import more_is_better
from flexbert.sweeps.point_looks import PointLooks, head, point_looks
from flexbert.sweeps.sweep_curves import (
    CurvePanel,
    DrawnRun,
    curve_number,
    curve_panels,
    mean_curve,
)
from flexbert.sweeps.sweep_table import SweepTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of each run's way: what lies before is far from where runs differ, and is cut off above.
_BEGINNING = 0.25
_LONGEST_LABEL = 100
# Legends in as many columns as labels of so many characters have room for.
_LEGEND_CHARACTERS = 130


def draw_sweep_curves(table: SweepTable, runs: Sequence[DrawnRun], path: Path) -> Path | None:
    """Draw all runs that have recorded something; None where none has.

    Args:
        path: of the picture; its suffix decides the format.

    Raises:
        UserError: if the suffix names no format of pictures, or the file cannot be written.
    """
    event, key = curve_number(runs, table.measures)
    panels = curve_panels(runs, event, key)
    if not panels:
        return None
    order = [*table.best_first]
    order += [label for label in dict.fromkeys(run.label for run in runs) if label not in order]
    looks = point_looks(order, table.reference, table.measures[0])
    named = [shown(label, _LONGEST_LABEL) for label in looks.named]
    columns = max(1, min(len(named), _LEGEND_CHARACTERS // (max(map(len, named)) + 8)))
    height = 4.0 + 0.2 * -(-len(named) // columns)
    with picture(path, width=10, height=height) as figure:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)
        limits = _limits(panels[0], below=not more_is_better(key))
        grid[0, 0].set_ylim(*limits)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _begin_where_curves_do(axes, panel, limits)
            _draw(axes, panel, looks)
        title = f"{key} of {'evaluations' if event == 'eval' else 'training'}"
        grid[0, 0].set_ylabel(key)
        grid[0, 0].yaxis.set_major_formatter(tick_formatter(number_ticks))
        handles = [
            grid[0, 0].plot([], [], color=looks.colors[label], linewidth=2)[0]
            for label in looks.named
        ]
        figure.legend(
            handles, named, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )
        head(figure, f"{table.name}: {title}", _caption(runs, looks, _is_cut(panels[0], limits)))
    return path


def _draw(axes: Axes, panel: CurvePanel, looks: PointLooks) -> None:
    by_point: dict[str, list[int]] = {}
    for index, curve in enumerate(panel.curves):
        by_point.setdefault(curve.run.label, []).append(index)
    # What stands out last, the reference on top.
    back_to_front = [label for label in by_point if label not in looks.named]
    for label in (*back_to_front, *reversed(looks.named)):
        curves = [panel.curves[index] for index in by_point.get(label, [])]
        color, is_grey = looks.colors[label], looks.colors[label] == GREY
        counted = [curve for curve in curves if curve.run.counts]
        for curve in curves:
            if curve.run.counts and len(counted) == 1:
                continue
            axes.plot(curve.x, curve.y, color=color, linewidth=0.7, alpha=0.3 if is_grey else 0.5)
            finite = np.flatnonzero(curve.is_finite)
            if not curve.run.counts and len(finite):
                # At the edge, where it ended beyond what is shown.
                x = np.clip(curve.x[finite[-1]], *axes.get_xlim())
                y = np.clip(curve.y[finite[-1]], *axes.get_ylim())
                style: dict[str, Any] = {"markersize": 8, "markeredgewidth": 2, "zorder": 5}
                axes.plot(x, y, "x", color=color, clip_on=False, **style)
        axes.plot(*mean_curve(counted), color=color, linewidth=0.9 if is_grey else 1.8)
    axes.set_xlabel(panel.title)
    ticks = power_ticks if panel.is_flops else number_ticks if panel.is_time else count_ticks
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(tick_formatter(ticks))


def _limits(panel: CurvePanel, *, below: bool) -> tuple[float, float]:
    """Of the values, without the runs' beginnings and without what one run flew to.

    Runs that are in no mean decide nothing, where there are others.

    Args:
        below: whether runs begin far above where they end.
    """
    sign = 1.0 if below else -1.0
    highest, lowest = [], []
    counted = [curve for curve in panel.curves if curve.run.counts]
    for curve in counted or panel.curves:
        x, y = curve.x[curve.is_finite], sign * curve.y[curve.is_finite]
        late = y[x >= x[0] + _BEGINNING * (x[-1] - x[0])] if len(x) else y
        if len(late):
            highest.append(float(late.max()))
            lowest.append(float(late.min()))
    if not highest:
        return 0.0, 1.0
    low = min(lowest)
    high = min(max(highest), low + 2 * max(float(np.median(highest)) - low, 1e-9))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    ends = (sign * (low - margin), sign * (high + margin))
    return min(ends), max(ends)


def _begin_where_curves_do(axes: Axes, panel: CurvePanel, limits: tuple[float, float]) -> None:
    low, high = limits
    begins = [
        float(curve.x[seen][0])
        for curve in panel.curves
        if (seen := (curve.y >= low) & (curve.y <= high)).any()
    ]
    ends = [float(curve.x[-1]) for curve in panel.curves if len(curve.x)]
    if begins and max(ends) > min(begins):
        margin = 0.04 * (max(ends) - min(begins))
        axes.set_xlim(max(0.0, min(begins) - margin), max(ends) + margin)


def _is_cut(panel: CurvePanel, limits: tuple[float, float]) -> bool:
    low, high = limits
    values = [curve.y[curve.is_finite] for curve in panel.curves]
    return any(((y < low) | (y > high)).any() for y in values)


def _caption(runs: Sequence[DrawnRun], looks: PointLooks, is_cut: bool) -> str:
    parts = [looks.caption]
    labels = [run.label for run in runs if run.counts]
    if len(labels) > len(set(labels)):
        parts.append("thin: each seed; thick: their mean")
    if is_cut:
        parts.append("what is far from where runs end is not shown")
    if not all(run.counts for run in runs):
        parts.append("x: where a run ended that is not finished, or diverged; it is in no mean")
    return "; ".join(filter(None, parts))
