"""What the dimensions of parameters consist of, for whoever makes them longer.

Attention and MLP tell it by a method ``dimension_units()``, since only they know what stands side
by side in a fused matrix. Without that method their parameters can only be taken as they are.
"""

from __future__ import annotations

from typing import NamedTuple


class Units(NamedTuple):
    """``num`` units of ``size`` entries, each only taken whole: a channel has one entry, a head has
    ``D``."""

    num: int
    size: int = 1


# A submodule and a dimension of its parameters, to what that consists of, in order. Dimensions that
# are not named are of single channels.
DimensionUnits = dict[tuple[str, int], tuple[Units, ...]]
