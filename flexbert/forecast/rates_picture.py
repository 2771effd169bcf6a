"""Losses over learning rates, and the best rate of each width, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flexbert.forecast.learning_rates import TransferRule
from flexbert.pictures import COLORS, picture


def draw_rates(rules: Sequence[TransferRule], path: Path) -> Path:
    """Draw a panel for each init: a line for each width, and a dotted one at its best rate.

    Args:
        path: of the picture; its suffix decides the format.
    """
    # Imported late, as most commands draw nothing.
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    with picture(path, width=4.5 * max(len(rules), 1) + 0.5, height=4.5) as figure:
        panels = figure.subplots(1, len(rules), sharey=True, squeeze=False)[0]
        for panel, rule in zip(panels, rules, strict=True):
            best = {each.width: each for each in rule.best}
            for (width, losses), color in zip(rule.losses.items(), COLORS, strict=False):
                rates = [rate for rate, _ in losses]
                panel.plot(
                    rates, [loss for _, loss in losses], "o-", color=color, label=f"width {width}"
                )
                if width in best:
                    panel.axvline(best[width].rate, color=color, linestyle=":", linewidth=1)
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.tick_params(axis="x", labelrotation=45)
            panel.set_xlabel("learning rate")
            slope = "" if rule.exponent is None else f": best ~ width^{rule.exponent.estimate:.2f}"
            panel.set_title(f"{rule.init}{slope}")
        panels[0].set_ylabel("evaluation loss")
        panels[-1].legend(frameon=False)
    return path
