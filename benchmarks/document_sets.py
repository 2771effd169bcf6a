"""Sets of documents of random tokens, and batches of them, padded or packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import packed_batch
from flexbert.nn.packed_batch import PackedBatch


@dataclass(frozen=True)
class DocumentSet:
    """Documents of normally distributed lengths, clipped to 1 and ``max_length``."""

    max_length: int
    mean: int
    deviation: int

    def lengths(self, documents: int, divisor: int = 1) -> np.ndarray:
        """Of so many documents in random order, int64; each divided by ``divisor``."""
        drawn = np.random.default_rng(0).normal(self.mean, self.deviation, documents)
        return (drawn / divisor).round().astype(np.int64).clip(1, self.max_length // divisor)


# Those of the ModernBERT paper (arXiv 2412.13663).
SETS = {
    "fixed-512": DocumentSet(512, 512, 0),
    "normal-512": DocumentSet(512, 256, 64),
    "fixed-8192": DocumentSet(8192, 8192, 0),
    "normal-8192": DocumentSet(8192, 4096, 1024),
}


def padded_batches(
    lengths: np.ndarray, size: int, vocab_size: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Token ids ``[B, T]`` and masks of the real ones, bool; ``size`` documents in a batch, padded
    on the right to the longest of them."""

    def batch(some: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.arange(int(some.max())) < some[:, None]
        return torch.randint(vocab_size, mask.shape, device=device), mask.to(device)

    return [batch(some) for some in torch.from_numpy(lengths).split(size)]


def packed_batches(
    lengths: np.ndarray, size: int, vocab_size: int, device: torch.device
) -> list[tuple[PackedBatch]]:
    """Documents end to end, :func:`token_budget` of ``size`` documents in a batch."""
    groups = filled(lengths, token_budget(lengths, size))
    return [(packed_batch(group, vocab_size, device),) for group in groups]


def token_budget(lengths: np.ndarray, size: int) -> int:
    """The most tokens of a packed batch: what ``size`` documents of the mean length have."""
    return round(size * float(lengths.mean()))


def filled(lengths: np.ndarray, most: int) -> Iterator[list[int]]:
    """Lengths in their order, in groups of at most ``most`` tokens, or of one longer document."""
    group: list[int] = []
    for length in lengths.tolist():
        if group and sum(group) + length > most:
            yield group
            group = []
        group.append(length)
    yield group
