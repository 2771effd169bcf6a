"""Which points of a picture have a color: all of a few, and the best of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexbert.pictures import COLORS, GREY

_REFERENCE = "#1c1f24"
# The last one is a grey, which here is for all that have no color of their own.
_OTHERS = COLORS[:-1]


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
