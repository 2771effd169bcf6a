"""How large each update's batch is: a pure function of the update number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexbert.config.data import DataConfig
from flexbert.config.duration import Duration
from flexbert.config.training import BatchConfig


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """The global batch of every update of a stage, in sequences and in packed rows.

    Attributes:
        full: sequences in an update after the warmup.
        warmup: the smaller sizes before, ascending.
        updates_each: how many updates each of those lasts.
        max_length, row_length: tokens of a sequence and of a row.
    """

    full: int
    warmup: tuple[int, ...] = ()
    updates_each: int = 0
    max_length: int
    row_length: int

    @classmethod
    def of(cls, batch: BatchConfig, data: DataConfig, duration: Duration) -> BatchSizes:
        """Those of a stage of this length."""
        warmup = batch.warmup
        return cls(
            full=batch.size,
            warmup=warmup.sizes(batch.size) if warmup else (),
            updates_each=(
                warmup.updates_each(batch.size, data.max_length, duration) if warmup else 0
            ),
            max_length=data.max_length,
            row_length=data.row_length,
        )

    def size(self, update: int) -> int:
        """Sequences in an update over all processes."""
        if update >= self.warmup_updates:
            return self.full
        return self.warmup[update // self.updates_each]

    def rows(self, update: int) -> int:
        """Packed rows in an update over all processes."""
        return self._rows_of(self.size(update))

    @property
    def warmup_updates(self) -> int:
        return len(self.warmup) * self.updates_each

    def rows_before(self, update: int) -> int:
        """Rows of all updates before this one."""
        sizes, rest = divmod(min(update, self.warmup_updates), self.updates_each or 1)
        rows = self.updates_each * sum(map(self._rows_of, self.warmup[:sizes]))
        if rest:
            rows += rest * self._rows_of(self.warmup[sizes])
        return rows + max(0, update - self.warmup_updates) * self._rows_of(self.full)

    def updates_for(self, rows: float) -> int:
        """The fewest updates that have this many rows together."""
        updates = 0
        for size in self.warmup:
            needed = math.ceil(rows / self._rows_of(size))
            if needed <= self.updates_each:
                return updates + needed
            updates += self.updates_each
            rows -= self.updates_each * self._rows_of(size)
        return updates + math.ceil(rows / self._rows_of(self.full))

    def _rows_of(self, size: int) -> int:
        return size * self.max_length // self.row_length
