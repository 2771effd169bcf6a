"""The kind of device that a computation goes by, a GPU where one is counted for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_counting_for_a_gpu = ContextVar("counting_for_a_gpu", default=False)


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Inside, a CPU takes as much at a time as a GPU: to count what one would take."""
    token = _counting_for_a_gpu.set(True)
    try:
        yield
    finally:
        _counting_for_a_gpu.reset(token)


def kind_of(device: torch.device) -> str:
    """``cpu``, ``cuda`` and so on."""
    return "cuda" if _counting_for_a_gpu.get() else device.type
