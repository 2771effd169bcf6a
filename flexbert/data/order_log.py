"""What a run's data order was, stretch by stretch: enough to tell later what each step saw.

A stretch is a run of updates over one order: a stage, or what follows where a changed order was
accepted. Its folder in the run's holds ``00000-pretrain.json`` and ``00000-pretrain.windows``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
        recipe: the resolved recipe that it was trained with.
        order: see :func:`flexbert.data.fingerprint.describe_order`.
    """

    number: int
    stage: str
    generation: int
    first_step: int
    first_update: int
    recipe: Mapping[str, Any]
    order: OrderDescription

    @property
    def name(self) -> str:
        return f"{self.number:05d}-{self.stage}"


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

        Returns:
            The stretch that training goes on with, its number and first steps set right.
        """
        kept = []
        for old in self.stretches():
            if old.first_step < step or (old.first_step == step == 0):
                kept.append(old)
            else:
                self._file(old).unlink()
        last = kept[-1] if kept else None
        same = last is not None and (last.stage, last.generation, last.order) == (
            stretch.stage,
            stretch.generation,
            stretch.order,
        )
        if last is not None and same:
            return last
        number = last.number + 1 if last is not None else 0
        begun = Stretch(**{**asdict(stretch), "number": number})
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{begun.name}.windows").unlink(missing_ok=True)
        temporary = self.folder / f".{begun.name}.tmp"
        temporary.write_text(json.dumps(asdict(begun), indent=1) + "\n")
        temporary.replace(self._file(begun))
        return begun

    def index(self, stretch: Stretch, num_parts: int) -> WindowIndex:
        """The windows of a stretch's stream."""
        return WindowIndex(self.folder / f"{stretch.name}.windows", num_parts)

    def _file(self, stretch: Stretch) -> Path:
        return self.folder / f"{stretch.name}.json"
