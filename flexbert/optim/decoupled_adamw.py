"""AdamW with decoupled weight decay."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from flexbert.config.optimizer import Multipliers, ParameterGroup
from flexbert.config.registry import register
from flexbert.optim.adamw import AdamW

log = logging.getLogger(__name__)

# Above it a decay is likely meant for torch's AdamW: an update at the base learning rate would
# shrink weights by a thousandth.
HIGH_DECAY = 1e-3


@register("decoupled_adamw")
@dataclass(frozen=True, kw_only=True)
class DecoupledAdamW(AdamW):
    """AdamW whose weight decay is scaled by lr / base lr, and not by lr.

    Loshchilov and Hutter 2019, algorithm 2, as Composer has it; ``weight_decay`` is the share by
    which an update at the base learning rate shrinks a weight. It is torch's AdamW, which
    multiplies a decay by lr, with a decay that is divided by the base lr.
    """

    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.95)

    def build(self, model: nn.Module) -> Optimizer:
        if self.weight_decay >= HIGH_DECAY:
            log.warning(
                "weight_decay=%g is high for decoupled_adamw, which does not multiply it by lr",
                self.weight_decay,
            )
        return super().build(model)

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        shared = super().hyperparameters(group, multipliers)
        return {**shared, "weight_decay": shared["weight_decay"] / self.peak_lr(group)}

    def group_weight_decay(self, group: ParameterGroup) -> float:
        return super().group_weight_decay(group) * self.peak_lr(group)
