"""A recipe's curves over its whole length: what will be set at each update."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.pictures import BLUE, GREY, RED, count_ticks, picture, tick_formatter
from flexbert.schedule.stages import Stage, all_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 1000  # of each stage
THETA = " theta"


def draw_plan(loaded: LoadedRecipe, path: Path) -> Path:
    """Draw learning rate, batch size, rotary bases and mask rate over tokens, as if rows were full.

    Args:
        path: of the picture; its suffix decides the format.
    """
    stages = all_stages(loaded.stages)
    curves = [stage_curves(stage) for stage in stages]
    begins = np.cumsum([0, *(stage.nominal_tokens for stage in stages)]).tolist()
    thetas = dict.fromkeys(name for curve in curves for name in curve if name.endswith(THETA))
    panels: dict[str, tuple[Sequence[str], bool]] = {
        "learning rate": (("lr",), False),
        "batch size, sequences": (("batch_size",), False),
        "rotary base": (tuple(thetas), True),
        "mask rate": (("mask_rate",), False),
    }
    with picture(path, width=11, height=8) as figure:
        for axes, (title, (names, is_log)) in zip(
            figure.subplots(len(panels), sharex=True), panels.items(), strict=True
        ):
            _draw(axes, names, curves, begins)
            axes.set_title(title)
            if is_log:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            for begin, stage in zip(begins, stages, strict=False):
                axes.axvline(begin, color=GREY, linewidth=0.8, linestyle=":")
                if axes is figure.axes[0]:
                    axes.annotate(
                        f" {stage.name}", (begin, 0.04), xycoords=("data", "axes fraction")
                    )
        axes.set_xlabel("tokens")
        axes.set_xlim(0, begins[-1])
        axes.xaxis.set_major_formatter(tick_formatter(count_ticks))
    return path


def stage_curves(stage: Stage) -> Mapping[str, np.ndarray]:
    """Values at updates spread over a stage, its first and last among them.

    Returns:
        ``tokens`` of the stage before the update, and for each curve its values.
    """
    updates = np.unique(np.linspace(0, stage.nominal_updates - 1, POINTS).astype(int)).tolist()
    tokens = [stage.batches.rows_before(u) * stage.recipe.data.row_length for u in updates]
    clocks = [stage.clock(t, u) for t, u in zip(tokens, updates, strict=True)]
    return {
        "tokens": np.array(tokens),
        "lr": np.array([stage.learning_rate(clock) for clock in clocks]),
        "batch_size": np.array([stage.batches.size(u) for u in updates]),
        "mask_rate": np.array([stage.mask_rate(c.tokens, c.updates) for c in clocks]),
        **{
            f"{kind}{THETA}": np.full(len(updates), theta)
            for kind, theta in window_thetas(stage.recipe.model).items()
        },
    }


def window_thetas(model: ModelConfig) -> dict[str, float]:
    """The rotary base of each window, and of layers that have another one than the first of it."""
    thetas: dict[str, float] = {}
    for layer in layer_plan(model):
        if layer.theta is not None:
            window = "global" if layer.window is None else f"window {layer.window}"
            differs = thetas.get(window, layer.theta) != layer.theta
            thetas[f"{window}, layer {layer.index}" if differs else window] = layer.theta
    return thetas


def _draw(
    axes: Axes,
    names: Sequence[str],
    curves: Sequence[Mapping[str, np.ndarray]],
    begins: Sequence[int],
) -> None:
    for name, color in zip(names, itertools.cycle((BLUE, RED, GREY)), strict=False):
        label: str | None = name
        for curve, begin in zip(curves, begins, strict=False):
            if name in curve:
                axes.plot(curve["tokens"] + begin, curve[name], color=color, label=label)
                label = None  # once in the legend
    if len(names) > 1:
        axes.legend(frameon=False)
