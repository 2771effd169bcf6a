"""A comparison as a picture: a panel a task, a line a model, floors as rules across."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.errors import shown
from flexbert.pictures import BLUE, GREY, RED, number_ticks, picture, tick_formatter
from flexbert.statistics import mean_interval
from flexbert.tasks.comparison import Comparison, TableColumn, TableRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
_LINES = ("--", ":", "-.")
# In characters: of a row, and of a panel as wide as it is.
_LONGEST_NAME = 32
_LONGEST_TITLE = 34


def draw_comparison(found: Comparison, path: Path) -> Path:
    """Draw means over seeds with their 95 percent t intervals, and each seed behind them.

    Args:
        path: of the picture; its suffix decides the format.

    Raises:
        UserError: if the suffix names no format of pictures, or the file cannot be written.
    """
    models = [row for row in found.rows if not row.is_floor]
    floors = [row for row in found.rows if row.is_floor]
    across = min(_COLUMNS, len(found.columns))
    down = math.ceil(len(found.columns) / across)
    height = 1.3 + 0.34 * max(len(models), 1)
    with picture(path, width=2.6 + 2.6 * across, height=0.7 + height * down) as figure:
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes, column in itertools.zip_longest(grid.flat, found.columns):
            if column is None:
                axes.set_visible(False)
                continue
            _draw(axes, found, column, models, floors)
        grid[0, 0].set_yticks(range(len(models)), [_clipped(row.label) for row in models])
        grid[0, 0].set_ylim(len(models) - 0.5, -0.5)
        handles, labels = [], []
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                if label not in labels:
                    handles.append(handle)
                    labels.append(label)
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        what = "best fit of each" if found.best else "mean over seeds, with its 95% interval"
        title = f"{', '.join(found.suites)}: {what}"
        if len(models) > 1:
            title += f" (red: the reference, {_clipped(found.reference)})"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return path


def _draw(
    axes: Axes,
    found: Comparison,
    column: TableColumn,
    models: list[TableRow],
    floors: list[TableRow],
) -> None:
    for row, line in zip(floors, itertools.cycle(_LINES), strict=False):
        entry = found.entries[row.label].get(column.label)
        if entry is not None and entry.mean is not None:
            value = entry.mean * column.scale
            axes.axvline(value, color=GREY, linestyle=line, linewidth=1.2, label=row.label)
    for place, row in enumerate(models):
        entry = found.entries[row.label].get(column.label)
        if entry is None or entry.mean is None:
            continue
        values = [value * column.scale for value in entry.values if value is not None]
        color = RED if row.label == found.reference else BLUE
        if len(values) > 1:
            axes.plot(values, [place] * len(values), "|", color=color, alpha=0.45, markersize=9)
        if (interval := mean_interval(values)) is not None and len(values) > 2:
            ends = (interval.low, interval.high)
            axes.plot(ends, (place, place), color=color, linewidth=1.6, solid_capstyle="butt")
        axes.plot(entry.mean * column.scale, place, "o", color=color, markersize=5.5)
    axes.set_title(shown(f"{column.label}, {column.metric}", _LONGEST_TITLE), fontsize=10)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    axes.margins(x=0.08)
    axes.xaxis.set_major_formatter(tick_formatter(number_ticks))


def _clipped(text: str) -> str:
    return shown(text, _LONGEST_NAME)
