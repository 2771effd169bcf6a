"""What the pictures of a sweep share: which points have a color, and how captions stand."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexbert.pictures import COLORS, GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REFERENCE = "#1c1f24"
# The last one is a grey, which here is for all that have no color of their own.
_OTHERS = COLORS[:-1]
# Characters of a caption's line, for each inch of a picture.
_CHARACTERS = 13


@dataclass(frozen=True, kw_only=True)
class PointLooks:
    """
    Attributes:
        colors: by label, of all points; GREY for those that do not stand out.
        named: labels of those that do, the reference and then the best first.
        caption: what the colors mean.
    """

    colors: dict[str, str]
    named: tuple[str, ...]
    caption: str


def point_looks(best_first: Sequence[str], reference: str, measure: str) -> PointLooks:
    """A color for each point, the same in every picture of a sweep."""
    others = [label for label in best_first if label != reference]
    shown = others[: len(_OTHERS)]
    colors = dict.fromkeys(best_first, GREY)
    colors |= dict(zip(shown, _OTHERS, strict=False))
    caption = f"black: the reference, {reference}" if reference in colors else ""
    if reference in colors:
        colors[reference] = _REFERENCE
    if len(others) > len(shown):
        caption += f"{'; ' * bool(caption)}in color the best {len(shown)} by {measure}, "
        caption += f"grey the other {len(others) - len(shown)}"
    named = (*([reference] if reference in colors else []), *shown)
    return PointLooks(colors=colors, named=named, caption=caption)


def head(figure: Figure, title: str, caption: str) -> None:
    """Write the title, and below it what colors and marks mean, in lines that fit."""
    width = int(figure.get_figwidth() * _CHARACTERS)
    lines = [title, *textwrap.wrap(caption, width, break_on_hyphens=False)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
