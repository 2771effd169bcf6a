"""AdamW with decoupled weight decay, Composer's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from flexbert.config.optimizer import AdamFamilyConfig, Multipliers, ParameterGroup
from flexbert.config.registry import register
from flexbert.optim.groups import keep_own_groups, parameter_groups


@register("decoupled_adamw")
@dataclass(frozen=True, kw_only=True)
class DecoupledAdamW(AdamFamilyConfig):
    """AdamW whose weight decay is scaled by lr / base lr, and not by lr.

    Loshchilov and Hutter 2019, algorithm 2, where torch's AdamW multiplies by lr as well;
    ``weight_decay`` is the share by which an update at the base learning rate shrinks a weight.
    """

    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8

    def build(self, model: nn.Module) -> Optimizer:
        # Imported here because a plan knows nothing of Composer, which takes 9 seconds to import.
        from composer.optim import DecoupledAdamW as ComposerDecoupledAdamW

        groups = parameter_groups(model, self)
        # The groups hold both; told here too, because Composer warns of a high weight decay.
        optimizer = ComposerDecoupledAdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        for group in optimizer.param_groups:
            # Composer takes lr for it, and where that is 0 decays at full strength.
            group["initial_lr"] = self.peak_lr(group)
        optimizer.register_load_state_dict_pre_hook(keep_own_groups)
        return optimizer

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        shared = super().hyperparameters(group, multipliers)
        return {**shared, "initial_lr": self.peak_lr(group)}
