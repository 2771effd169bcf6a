"""Lengths of training: in tokens, in batches, or as a fraction of the stage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["tok", "ba", "dur"]
_PATTERN = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*(tok|ba|dur)\s*$")


@dataclass(frozen=True)
class Duration:
    """``value`` real tokens (``tok``), optimizer updates (``ba``) or stage lengths (``dur``).

    Written in YAML as ``3_000_000_000tok``, ``3e9tok``, ``500ba`` or ``0.1dur``, the suffixes that
    Composer uses.
    """

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: Any) -> Duration:
        """Read a duration from its YAML spelling.

        Raises:
            ValueError: if the text is not a number followed by a unit, or a count is not whole.
        """
        match = _PATTERN.match(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"expected a duration such as 1_000_000tok, 500ba or 0.1dur, got {text!r}"
            )
        value = float(match[1].replace("_", ""))
        unit: Unit = match[2]  # type: ignore[assignment]
        if unit == "dur":
            if value > 1:
                raise ValueError(f"a fraction of the stage is at most 1dur, got {text!r}")
            return cls(value, unit)
        if value != int(value):
            raise ValueError(f"tokens and batches are whole numbers, got {text!r}")
        return cls(int(value), unit)

    def of(self, whole: Duration) -> Duration:
        """A fraction as what it is of ``whole``; anything else as it is."""
        return Duration(self.value * whole.value, whole.unit) if self.unit == "dur" else self

    def plain(self) -> str:
        """The YAML spelling."""
        return f"{self.value:g}{self.unit}" if self.unit == "dur" else f"{self.value}{self.unit}"

    def __str__(self) -> str:
        return self.plain()
