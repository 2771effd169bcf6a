"""AdamW, torch's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from flexbert.config.optimizer import AdamFamilyConfig, Multipliers, ParameterGroup
from flexbert.config.registry import register
from flexbert.optim.groups import keep_own_groups, parameter_groups

# Which of torch's implementations: the kernel that goes over memory once. On a CPU too, where it
# took 8 ms for 12 million parameters, and the loop over operations 50 (one core).
FUSED = {"fused": True, "foreach": False}


@register("adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW(AdamFamilyConfig):
    """AdamW (Loshchilov and Hutter 2019): an update shrinks weights by lr * weight_decay."""

    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def build(self, model: nn.Module) -> Optimizer:
        optimizer = torch.optim.AdamW(parameter_groups(model, self))
        optimizer.register_load_state_dict_pre_hook(keep_own_groups)
        return optimizer

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        return {**super().hyperparameters(group, multipliers), **FUSED}
