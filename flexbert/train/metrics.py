"""Loss and accuracy over masked positions, summed over processes and divided once at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

IGNORE = -100


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of ``logits [M, V]`` over the labels that are not ``IGNORE``.

    Zero, with a gradient of zero, where there is none: a padding row must not make NaN, nor leave a
    parameter without the gradient that other processes wait for.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


class _MaskedMean(Metric):
    """A sum over masked tokens divided by their number."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        return self.total / self.count


class MaskedLoss(_MaskedMean):
    """Cross-entropy in nats per masked token."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add ``logits [M, V]`` against ``labels [M]``."""
        self.total += F.cross_entropy(
            logits.float(), labels, ignore_index=IGNORE, reduction="sum"
        ).double()
        self.count += (labels != IGNORE).sum()


class MaskedAccuracy(_MaskedMean):
    """Share of masked tokens whose most likely prediction is right."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add ``logits [M, V]`` against ``labels [M]``."""
        self.total += (logits.argmax(-1) == labels).sum()
        self.count += (labels != IGNORE).sum()
