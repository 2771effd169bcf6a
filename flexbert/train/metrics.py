"""Loss and accuracy over masked positions, summed over processes and divided once at the end."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from flexbert.nn.loss import IGNORE, summed_cross_entropy


class MaskedMean(Metric):
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


class MaskedLoss(MaskedMean):
    """Cross-entropy in nats per masked token."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add ``logits [M, V]`` against ``labels [M]``."""
        self.total += summed_cross_entropy(logits, labels).double()
        self.count += (labels != IGNORE).sum()


class MaskedAccuracy(MaskedMean):
    """Share of masked tokens whose most likely prediction is right."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add ``logits [M, V]`` against ``labels [M]``."""
        self.total += (logits.argmax(-1) == labels).sum()
        self.count += (labels != IGNORE).sum()
