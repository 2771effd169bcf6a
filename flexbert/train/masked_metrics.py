"""Loss and accuracy over masked positions, summed over processes and divided once at the end."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from flexbert.nn.cross_entropy import TokenScores


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

    def update(self, scores: TokenScores) -> None:
        """Add a micro-batch's."""
        self.total += scores.losses.double().sum()
        self.count += scores.counts.sum()


class MaskedAccuracy(MaskedMean):
    """Share of masked tokens whose most likely prediction is right."""

    def update(self, scores: TokenScores) -> None:
        """Add a micro-batch's."""
        self.total += scores.hits.sum()
        self.count += scores.counts.sum()
