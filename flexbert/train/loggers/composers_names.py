"""What Composer's trainer logs by itself. Our records have it, under names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")

_NAMES = {
    "loss/train/total",
    "time/batch",
    "time/batch_in_epoch",
    "time/epoch",
    "time/sample",
    "time/sample_in_epoch",
    "time/token",
    "time/token_in_epoch",
    "trainer/device_train_microbatch_size",
}
# Metrics of evaluations, by source.
_PREFIX = "metrics/"


def without_composers(metrics: Mapping[str, V]) -> dict[str, V]:
    """The metrics of our records, and of callbacks that a recipe names."""
    return {
        name: value
        for name, value in metrics.items()
        if name not in _NAMES and not name.startswith(_PREFIX)
    }
