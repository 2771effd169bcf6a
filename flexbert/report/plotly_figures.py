"""Panels as figures of plotly.js, in plain JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flexbert.pictures import GREY, RED
from flexbert.report.curves import Curve, Level, Panel, Panels, Unit, grouped

# Numbers of ticks in d3's notation; counts in thousands, millions and billions are plotly's own.
TICK_FORMATS: dict[Unit, dict[str, str]] = {
    "number": {},
    "count": {"exponentformat": "B"},
    "percent": {"tickformat": "~%", "hoverformat": ".2%"},
    "power": {"exponentformat": "e", "hoverformat": ".3~e"},
}
MODES = {"line": "lines", "pale": "lines", "dashed": "lines", "dots": "lines+markers"}
FEW_POINTS = 60
# Stages that begin nearer to each other share a name, as parts of the width.
NEAR = 0.07


def plotly_figures(panels: Panels) -> list[dict[str, Any]]:
    """``data`` and ``layout`` of each panel, to be handed to ``Plotly.newPlot``.

    Texts are escaped: plotly reads tags in them.
    """
    return [_figure(panel, panels) for panel in panels.panels]


def _figure(panel: Panel, panels: Panels) -> dict[str, Any]:
    is_first = panel is panels.panels[0]
    traces = [_trace(curve) for curve in panel.curves]
    is_log = panel.after(panels.begin).is_log
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": escaped(panels.axis)},
            "range": _x_range(panels),
            **TICK_FORMATS[panels.x_unit],
        },
        "yaxis": {
            "type": "log" if is_log else "linear",
            "rangemode": "tozero" if panel.from_zero else "normal",
            **TICK_FORMATS[panel.unit],
            **_y_range(panel, panels.begin),
        },
        "shapes": [
            *(_vertical(mark.x) for mark in panels.stages),
            *(_level(level.y) for level in panel.levels),
        ],
        "annotations": [
            *(_level_name(level, is_log=is_log) for level in panel.levels),
            *(_stage_names(panels) if is_first else ()),
        ],
        "showlegend": panels.needs_legend(panel),
        "legend": {"orientation": "h", "y": -0.16 if is_first else -0.3},
        "margin": {"l": 60, "r": 20, "t": 30, "b": 45},
        "height": 460 if is_first else 290,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
    }
    if is_first and panels.troubles:
        traces += _troubles(panels)
        layout["yaxis2"] = {
            "overlaying": "y",
            "range": [0, 1],
            "visible": False,
            "fixedrange": True,
        }
        layout["showlegend"] = True
    return {"data": traces, "layout": layout}


def _trace(curve: Curve) -> dict[str, Any]:
    label = escaped(curve.label or "").replace("\n", ", ")
    mode = MODES[curve.look]
    if len(curve.x) <= FEW_POINTS:
        mode = "lines+markers"
    return {
        "type": "scatter",
        "x": _plain(curve.x),
        "y": _plain(curve.y),
        "mode": mode,
        "name": label,
        "showlegend": bool(label),
        "opacity": 0.35 if curve.look == "pale" else 1,
        "line": {
            "color": curve.color,
            "width": 1 if curve.look == "pale" else 1.8,
            "dash": "dash" if curve.look == "dashed" else "solid",
        },
        "marker": {"size": 6 if curve.look == "dots" else 4},
        **({"hoverinfo": "skip"} if curve.look == "pale" else {}),
    }


def _troubles(panels: Panels) -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "x": [mark.x for mark in marks],
            "y": [0.02] * len(marks),
            "yaxis": "y2",
            "mode": "markers",
            "name": escaped(f"{kind} ({len(marks):,})"),
            "text": [escaped(mark.label) for mark in marks],
            "hoverinfo": "text",
            "marker": {"symbol": "x", "size": 8, "color": RED},
        }
        for kind, marks in panels.troubles.items()
    ]


def _stage_names(panels: Panels) -> list[dict[str, Any]]:
    width = panels.end - panels.begin or 1.0
    return [
        {
            "text": escaped(mark.label),
            "x": mark.x,
            "y": 1,
            "yref": "paper",
            "xanchor": "left",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 11},
        }
        for mark in grouped(panels.stages, NEAR * width)
    ]


def _level_name(level: Level, *, is_log: bool) -> dict[str, Any]:
    return {
        "text": escaped(level.label),
        "xref": "paper",
        "x": 1,
        "y": math.log10(level.y) if is_log else level.y,
        "xanchor": "right",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": GREY},
    }


def _vertical(x: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": GREY, "width": 1, "dash": "dot"},
    }


def _level(y: float) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"color": GREY, "width": 1, "dash": "dash"},
    }


def _x_range(panels: Panels) -> list[float]:
    width = panels.end - panels.begin
    margin = 0.02 * width if width > 0 else 0.5 * abs(panels.end) or 1.0
    return [panels.begin - margin, panels.end + margin]


def _y_range(panel: Panel, begin: float) -> dict[str, Any]:
    """Fits what is shown at first, where that is not all there is."""
    shown = panel.after(begin)
    values = np.array([*shown.values, *(level.y for level in shown.levels)])
    if not len(values):
        return {}
    low, high = (0.0 if panel.from_zero else float(values.min())), float(values.max())
    if shown.is_log:
        low, high = math.log10(low), math.log10(high)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return {"range": [low - margin / 2 if panel.from_zero else low - margin, high + margin]}


def _plain(values: np.ndarray) -> list[float | None]:
    """JSON has no nan: a gap is null. Seven digits are more than a screen shows."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values.tolist()]


def escaped(text: str) -> str:
    """A text that plotly shows as it is: it reads tags in it, and formulas between dollars."""
    return html.escape(text, quote=False).replace("$", "&#36;")


def json_in_script(value: Sequence[Any]) -> str:
    """JSON that may stand in a ``script`` element: no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
