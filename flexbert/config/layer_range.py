"""Which layers a key of ``model.layers`` means."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ITEM = re.compile(r"(-?\d+)(?:-(-?\d+))?")


@dataclass(frozen=True)
class LayerRange:
    """Layers named as ``"0"``, ``"0-2"`` (2 included), ``"-1"`` (the last) or ``"0,3-5"``.

    Negative numbers count from the end, as in Python.
    """

    items: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> LayerRange:
        """Raises: ValueError if ``text`` names no layers."""
        items = []
        for part in text.split(","):
            match = _ITEM.fullmatch(part.strip())
            if match is None:
                raise ValueError("expected layers as '0', '0-2', '-1' or '0,3-5'")
            first = int(match[1])
            items.append((first, first if match[2] is None else int(match[2])))
        return cls(tuple(items))

    def indices(self, num_layers: int) -> list[int]:
        """The layers of a model of this depth, in order.

        Raises:
            ValueError: if one of them is not there, or a range runs backwards.
        """
        found: set[int] = set()
        for first, last in self.items:
            for index in (first, last):
                if not -num_layers <= index < num_layers:
                    raise ValueError(f"there is no layer {index}: the model has {num_layers}")
            start, stop = first % num_layers, last % num_layers + 1
            if start >= stop:
                raise ValueError(f"the range {first}-{last} runs backwards")
            found.update(range(start, stop))
        return sorted(found)
