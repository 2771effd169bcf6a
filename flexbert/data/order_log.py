"""What a run's data order was, stretch by stretch: enough to tell later what each step saw.

A stretch is a run of updates over one order: a stage, or what follows where a changed order was
accepted. Its folder in the run's holds ``00000-pretrain.json`` and ``00000-pretrain.windows``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flexbert.data.fingerprint import OrderDescription
from flexbert.data.window_index import WindowIndex


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Updates over one order.

    Attributes:
        number: its place among the run's stretches.
        first_step: updates of the run before it.
        first_update: updates of its stage before it.
        first_tokens: tokens of its stage before it.
        first_row: rows of its stream before it.
        recipe: the resolved recipe of its stage.
        order: see :func:`flexbert.data.fingerprint.describe_order`.
    """

    number: int
    stage: str
    generation: int
    first_step: int
    first_update: int
    first_tokens: int
    first_row: int
    recipe: Mapping[str, Any]
    order: OrderDescription

    @property
    def name(self) -> str:
        return f"{self.number:05d}-{self.stage}"

    def has_order_of(self, other: Stretch) -> bool:
        """Whether both are updates over the same order."""
        return (self.stage, self.generation, self.order) == (
            other.stage,
            other.generation,
            other.order,
        )


class OrderLog:
    """The folder of a run that tells its data order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stretches(self) -> list[Stretch]:
        """All stretches, in order."""
        files = sorted(self.folder.glob("*.json"))
        return [Stretch(**json.loads(file.read_text())) for file in files]

    def resume(self, step: int, stretch: Stretch) -> Stretch:
        """Forget what came after ``step``, and begin ``stretch`` if the last one has another order.

        Args:
            stretch: what training would begin now.

        Returns:
            The stretch that training goes on with.
        """
        kept = []
        for old in self.stretches():
            if old.first_step < step or (old.first_step == step and old.has_order_of(stretch)):
                kept.append(old)
            else:
                self._file(old).unlink()
                self._windows(old).unlink(missing_ok=True)
        last = kept[-1] if kept else None
        if last is not None and last.has_order_of(stretch):
            # Corpora may have moved.
            return self._write(replace(last, recipe=stretch.recipe))
        return self._write(replace(stretch, number=last.number + 1 if last is not None else 0))

    def index(self, stretch: Stretch, num_parts: int) -> WindowIndex:
        """The windows of a stretch's stream."""
        return WindowIndex(self._windows(stretch), num_parts)

    def _write(self, stretch: Stretch) -> Stretch:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{stretch.name}.tmp"
        temporary.write_text(json.dumps(asdict(stretch), indent=1) + "\n")
        temporary.replace(self._file(stretch))
        return stretch

    def _windows(self, stretch: Stretch) -> Path:
        return self.folder / f"{stretch.name}.windows"

    def _file(self, stretch: Stretch) -> Path:
        return self.folder / f"{stretch.name}.json"
