"""Amounts of memory or disk, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_PATTERN = re.compile(r"([0-9][0-9_]*)(kb|mb|gb|tb)")


@dataclass(frozen=True)
class NumBytes:
    """``200gb`` in YAML; the units are powers of 1024."""

    value: int

    @classmethod
    def parse(cls, text: Any) -> NumBytes:
        """Read an amount from its YAML spelling.

        Raises:
            ValueError: if it is not a positive whole number followed by a unit.
        """
        match = _PATTERN.fullmatch(text.lower()) if isinstance(text, str) else None
        if match is None or int(match[1]) == 0:
            raise ValueError(f"expected an amount such as 500mb or 200gb, got {text!r}")
        return cls(int(match[1]) * _UNITS[match[2]])

    def plain(self) -> str:
        """The YAML spelling, in the largest unit that divides it."""
        unit = max((u for u in _UNITS if self.value % _UNITS[u] == 0), key=lambda u: _UNITS[u])
        return f"{self.value // _UNITS[unit]}{unit}"
