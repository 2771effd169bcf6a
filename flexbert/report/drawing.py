"""Panels as a picture, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flexbert.pictures import (
    GREY,
    RED,
    Labels,
    count_ticks,
    number_ticks,
    percent_ticks,
    picture,
    power_ticks,
    tick_formatter,
)
from flexbert.report.curves import Curve, Panel, Panels, Unit, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
LABELS: dict[Unit, Labels] = {
    "number": number_ticks,
    "count": count_ticks,
    "percent": percent_ticks,
    "power": power_ticks,
}
LONGEST_NAME = 40
# Fewer points are marked, as one alone has no line.
FEW_POINTS = 60
# Stages that begin nearer to each other share a name, as parts of the picture's width.
NEAR = 0.02


def draw_panels(panels: Panels, path: Path) -> Path:
    """Draw panels as ``path``: the first in full width, the others three to a row.

    Raises:
        UserError: if the suffix names no format of pictures, or the file cannot be written.
    """
    first, *others = (panel.after(panels.begin) for panel in panels.panels)
    num_rows = -(-len(others) // COLUMNS)
    with picture(path, width=13, height=4.6 + 2.4 * num_rows) as figure:
        # A grid of its own, so that labels above do not push panels below about.
        heights = (4.6, max(2.4 * num_rows, 0.01))
        halves: Any = figure.subfigures(2, 1, height_ratios=heights)
        above, below = halves
        axes = above.subplots()
        _draw(axes, first, panels)
        _mark_stages(axes, panels, named=True)
        _mark_troubles(axes, panels)
        _legend(axes)
        grid = list(below.subplots(num_rows, COLUMNS, squeeze=False).flat) if others else []
        for small, panel in zip(grid, others, strict=False):
            _draw(small, panel, panels)
            _mark_stages(small, panels, named=False)
            small.locator_params(axis="x", nbins=6)
            if panels.needs_legend(panel):
                many = len(panel.curves) > 4
                small.legend(
                    frameon=False, fontsize=7 if many else 8, ncols=2 if many else 1, loc="best"
                )
        for unused in grid[len(others) :]:
            unused.set_visible(False)
        figure.suptitle(clipped(panels.title, 150), x=0.01, ha="left", fontsize=13)
    return path


def _draw(axes: Axes, panel: Panel, panels: Panels) -> None:
    for curve in panel.curves:
        axes.plot(curve.x, curve.y, **_style(curve))
    for level in panel.levels:
        axes.axhline(level.y, color=GREY, linestyle="--", linewidth=1, label=clipped(level.label))
    axes.set_title(panel.title)
    if panel.is_log:
        axes.set_yscale("log")
        _label_log(axes, panel)
    else:
        axes.yaxis.set_major_formatter(tick_formatter(LABELS[panel.unit]))
        if panel.from_zero:
            _from_zero(axes, panel)
    axes.set_xlabel(panels.axis)
    axes.xaxis.set_major_formatter(tick_formatter(LABELS[panels.x_unit]))
    _set_width(axes, panels)


def _style(curve: Curve) -> dict[str, Any]:
    style: dict[str, Any] = {"color": curve.color, "label": curve.label and _legend_text(curve)}
    if curve.look == "dots":
        style |= {"marker": "o", "markersize": 4 if len(curve.x) <= FEW_POINTS else 2}
    elif curve.look == "pale":
        style |= {"linewidth": 0.6, "alpha": 0.35}
    elif curve.look == "dashed":
        style |= {"linestyle": "--"}
    if curve.look in ("line", "dashed") and len(curve.x) <= FEW_POINTS:
        style |= {"marker": ".", "markersize": 5}
    return {"linewidth": 1.3, **style}


def _legend_text(curve: Curve) -> str:
    lines = (curve.label or "").splitlines()
    text = "\n".join(clipped(line) for line in lines)
    # A label that begins so is kept out of legends.
    return f" {text}" if text.startswith("_") else text


def _from_zero(axes: Axes, panel: Panel) -> None:
    largest = float(panel.values.max(initial=0))
    top = 1.08 * largest if largest > 0 else 1.0
    # A little below zero, so that marks there are whole.
    axes.set_ylim(-0.03 * top, top)


def _label_log(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    # Powers of ten alone where there are several, else some between them.
    subs = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.yaxis.set_major_formatter(tick_formatter(power_ticks))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _set_width(axes: Axes, panels: Panels) -> None:
    width = panels.end - panels.begin
    margin = 0.02 * width if width > 0 else 0.5 * abs(panels.end) or 1.0
    axes.set_xlim(panels.begin - margin, panels.end + margin)


def _mark_stages(axes: Axes, panels: Panels, *, named: bool) -> None:
    width = panels.end - panels.begin or 1.0
    for mark in panels.stages:
        if mark.x >= panels.begin:
            axes.axvline(mark.x, color=GREY, linewidth=0.8, linestyle=":")
    if not named:
        return
    for mark in grouped(panels.stages, NEAR * width):
        if mark.x >= panels.begin:
            axes.annotate(
                clipped(mark.label, 28),
                (mark.x, 0.98),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                xytext=(3, 0),
                rotation=90,
                va="top",
                fontsize=9,
                color="#55595f",
            )


def _mark_troubles(axes: Axes, panels: Panels) -> None:
    symbols = {"skipped update": "x", "spike": "^", "rolled back": "<"}
    for kind, marks in panels.troubles.items():
        places = np.unique([mark.x for mark in marks])
        axes.plot(
            places,
            np.full(len(places), 0.02),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker=symbols.get(kind, "|"),
            markersize=6,
            color=RED if kind == "skipped update" else "#c79a2e",
            clip_on=False,
            label=f"{kind} ({len(marks):,})",
        )


def _legend(axes: Axes) -> None:
    """Behind the panel, where it hides no curve."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def clipped(text: str, longest: int = LONGEST_NAME) -> str:
    """A text that has room."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
