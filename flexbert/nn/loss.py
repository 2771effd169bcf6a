"""What masked-LM training minimises."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from flexbert.config.registry import register
from flexbert.config.training import LossConfig
from flexbert.errors import ConfigError
from flexbert.nn.checks import check_probability

IGNORE = -100


def summed_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats of ``logits [M, V]``, summed over labels that are not ``IGNORE``."""
    return F.cross_entropy(
        logits.float(),
        labels,
        ignore_index=IGNORE,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


@register("cross_entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(LossConfig):
    """Cross-entropy, in nats per masked token.

    Args:
        label_smoothing: share of the target spread evenly over the vocabulary (Szegedy et al.
            2016).
        z_loss: factor on the squared log of the softmax's denominator, which keeps logits from
            drifting (PaLM, Chowdhery et al. 2022, has 1e-4).
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        check_probability("label_smoothing", self.label_smoothing)
        if self.z_loss < 0:
            raise ConfigError("z_loss", f"must not be negative, got {self.z_loss}")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Zero, with a gradient of zero, where every label is ``IGNORE``: a padding row must not
        make NaN, nor leave a parameter without the gradient that other processes wait for."""
        total = summed_cross_entropy(logits, labels, self.label_smoothing)
        is_masked = labels != IGNORE
        if self.z_loss:
            squares = logits.float().logsumexp(-1).square()
            total = total + self.z_loss * (squares * is_masked).sum()
        return total / is_masked.sum().clamp(min=1)
