"""How large each update's batch is: a pure function of the update number."""

from __future__ import annotations

from flexbert.config.data import DataConfig
from flexbert.config.training import BatchConfig


def rows_per_update(batch: BatchConfig, data: DataConfig, update: int) -> int:
    """Packed rows of a stage's update over all processes."""
    del update  # every update has the same size; a batch warmup will read its number
    return batch.rows(data)
