"""Random numbers that can be drawn a second time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Of torch.randint, which excludes it.
SEED_LIMIT = torch.iinfo(torch.int64).max


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Restart a CPU's or CUDA device's default generator at ``seed``, for this block only."""
    if device.type == "cpu":
        generator = torch.default_generator
    else:
        generator = torch.cuda.default_generators[device.index or 0]
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
