"""A ladder, its law, and what it forecasts, in one picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flexbert.forecast.forecast_file import LadderFit
from flexbert.forecast.laws import Scale
from flexbert.forecast.target import Forecast, Target
from flexbert.pictures import COLORS, RED, as_count, picture, power_ticks, tick_formatter

# Of the curve to the target: an interval takes a moment each.
_POINTS = 12


def draw_forecast(
    found: LadderFit, path: Path, target: Target | None = None, forecast: Forecast | None = None
) -> Path:
    """Draw loss over training FLOPs: rungs by their size, the law, and the way to the target.

    The band is the interval of one more run. Between the largest rung and the target, parameters
    and tokens grow in proportion to their logarithms.

    Args:
        path: of the picture; its suffix decides the format.
    """
    # Imported late, as most commands draw nothing.
    from matplotlib.ticker import LogLocator, NullLocator

    rungs = found.ladder.rungs
    sizes = sorted({rung.scale.parameters for rung in rungs})
    with picture(path, width=8, height=5) as figure:
        axes = figure.subplots()
        # The forecast is red.
        colors = itertools.cycle(color for color in COLORS if color != RED)
        for size, color in zip(sizes, colors, strict=False):
            own = sorted(
                (rung for rung in rungs if rung.scale.parameters == size),
                key=lambda rung: rung.scale.flops,
            )
            flops = [rung.scale.flops for rung in own]
            label = f"{as_count(size)} parameters"
            axes.plot(flops, [rung.loss for rung in own], "o", color=color, label=label)
            axes.plot(flops, [found.fitted.loss_at(rung.scale) for rung in own], color=color)
        way = _way(found, target)
        bands = [found.fitted.prediction(scale) for scale in way]
        over = [scale.flops for scale in way]
        axes.plot(over, [band.estimate for band in bands], color=RED, linestyle="--")
        axes.fill_between(
            over,
            [band.low for band in bands],
            [band.high for band in bands],
            color=RED,
            alpha=0.15,
            linewidth=0,
            label="interval of a run, 95%",
        )
        if target is not None and forecast is not None:
            errors = [[forecast.loss - forecast.low], [forecast.high - forecast.loss]]
            axes.errorbar(
                [target.scale.flops],
                [forecast.loss],
                yerr=errors,
                fmt="s",
                color=RED,
                capsize=4,
                label=f"forecast {forecast.loss:.3f}",
            )
            if forecast.measured is not None:
                axes.plot(
                    [target.scale.flops],
                    [forecast.measured],
                    "*",
                    color="black",
                    markersize=12,
                    label=f"measured {forecast.measured:.3f}",
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(tick_formatter(power_ticks))
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("evaluation loss")
        axes.set_title(f"{found.fitted.law.formula} through {len(rungs)} runs")
        axes.legend(frameon=False)
    return path


def _way(found: LadderFit, target: Target | None) -> Sequence[Scale]:
    """From the largest rung to the target; without one, to eight times its FLOPs."""
    begin = max((rung.scale for rung in found.ladder.rungs), key=lambda scale: scale.flops)
    end = (
        target.scale
        if target is not None
        else Scale(
            parameters=begin.parameters * 8**0.5,
            tokens=begin.tokens * 8**0.5,
            flops=begin.flops * 8,
        )
    )

    def between(share: float, one: float, other: float) -> float:
        return float(np.exp((1 - share) * np.log(one) + share * np.log(other)))

    return [
        Scale(
            parameters=between(share, begin.parameters, end.parameters),
            tokens=between(share, begin.tokens, end.tokens),
            flops=between(share, begin.flops, end.flops),
        )
        for share in np.linspace(0, 1, _POINTS).tolist()
    ]
