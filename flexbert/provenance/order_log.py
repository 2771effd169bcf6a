"""What a run's data order was, segment by segment: enough to tell later what each step saw.

A segment is a run of updates over one order: a stage, or what follows where a changed order was
accepted. Its folder in the run's holds ``00000-pretrain.json`` and ``00000-pretrain.windows``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flexbert.data.packing.position import OrderDescription
from flexbert.data.packing.window_index import PackingWindowIndex
from flexbert.files.durable import write_text


@dataclass(frozen=True, kw_only=True)
class RunSegment:
    """Updates over one order.

    Attributes:
        number: its place among the run's segments.
        first_step: updates of the run before it.
        first_update: updates of its stage before it.
        first_tokens: tokens of its stage before it.
        first_row: rows of its stream before it.
        recipe: the resolved recipe of its stage.
        order: see :func:`flexbert.data.packing.order_description.describe_order`.
        skipped_rows: of its stage's stream, passed over before it.
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
    skipped_rows: int = 0

    @property
    def name(self) -> str:
        return f"{self.number:05d}-{self.stage}"

    def has_order_of(self, other: RunSegment) -> bool:
        """Whether both are updates over the same order, without rows passed over between them."""
        return (self.stage, self.generation, self.order, self.skipped_rows) == (
            other.stage,
            other.generation,
            other.order,
            other.skipped_rows,
        )


class OrderLog:
    """The folder of a run that tells its data order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def segments(self) -> list[RunSegment]:
        """All segments, in order."""
        files = sorted(self.folder.glob("*.json"))
        return [RunSegment(**json.loads(file.read_text())) for file in files]

    def resume(self, step: int, segment: RunSegment) -> RunSegment:
        """Forget what came after ``step``, and begin ``segment`` if the last one has another order.

        Args:
            segment: what training would begin now.

        Returns:
            The segment that training goes on with.
        """
        kept = []
        for old in self.segments():
            if old.first_step < step or (old.first_step == step and old.has_order_of(segment)):
                kept.append(old)
            else:
                self._file(old).unlink()
                self._windows(old).unlink(missing_ok=True)
        last = kept[-1] if kept else None
        if last is not None and last.has_order_of(segment):
            # Corpora may have moved.
            return self._write(replace(last, recipe=segment.recipe))
        return self._write(replace(segment, number=last.number + 1 if last is not None else 0))

    def index(self, segment: RunSegment, num_buckets: int) -> PackingWindowIndex:
        """The windows of a segment's stream."""
        return PackingWindowIndex(self._windows(segment), num_buckets)

    def _write(self, segment: RunSegment) -> RunSegment:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._file(segment), json.dumps(asdict(segment), indent=1) + "\n")
        return segment

    def _windows(self, segment: RunSegment) -> Path:
        return self.folder / f"{segment.name}.windows"

    def _file(self, segment: RunSegment) -> Path:
        return self.folder / f"{segment.name}.json"
