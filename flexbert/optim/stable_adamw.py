"""StableAdamW (Wortsman et al. 2023), as torch-optimi implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from flexbert.config.fields import COMPUTATION, key
from flexbert.config.optimizer import AdamFamilyConfig, Multipliers, ParameterGroup
from flexbert.config.registry import register
from flexbert.devices.triton_toolchain import triton_problem
from flexbert.errors import ConfigError
from flexbert.optim.groups import keep_own_groups, parameter_groups
from flexbert.optim.plain_stable_adamw import WithoutTriton


@register("stable_adamw")
@dataclass(frozen=True, kw_only=True)
class StableAdamW(AdamFamilyConfig):
    """AdamW with Adafactor's update clipping and fully decoupled weight decay.

    ``weight_decay`` is the share by which an update at the base learning rate shrinks a weight; it
    is scaled by lr / base lr and by nothing else.

    Attributes:
        clip_anyway: clip gradients by ``clip_norm`` although every update is clipped.
    """

    clip_anyway: bool = key(COMPUTATION, default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_norm is not None and not self.clip_anyway:
            raise ConfigError(
                "clip_norm",
                "StableAdamW clips its updates, which stands for clipping gradients; to do both "
                "set clip_anyway: true",
            )
        if self.clip_anyway and self.clip_norm is None:
            raise ConfigError("clip_anyway", "does nothing without clip_norm")

    def build(self, model: nn.Module) -> Optimizer:
        # Imported here because a plan needs the numbers above and not the optimizer.
        from optimi import StableAdamW as OptimiStableAdamW

        groups = parameter_groups(model, self)
        # Under optimi's name, by which a checkpoint knows whose state it holds.
        plain = type(OptimiStableAdamW.__name__, (WithoutTriton, OptimiStableAdamW), {})
        kind = OptimiStableAdamW if groups[0]["triton"] else plain
        # The groups hold both; told here too, because optimi then warns of a high weight decay.
        optimizer = kind(groups, lr=self.lr, decouple_lr=True)
        optimizer.register_load_state_dict_pre_hook(_take_over_count)
        optimizer.register_load_state_dict_pre_hook(keep_own_groups)
        return optimizer

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        scale = multipliers.within(group)
        return {
            "lr": self.lr * scale.lr,
            "max_lr": self.peak_lr(group),
            "decouple_lr": True,
            "beta1": self.betas[0],
            "beta2": self.betas[1],
            "eps": self.eps,
            "weight_decay": self.weight_decay * scale.weight_decay,
            # Told, because optimi takes it whenever triton is installed, and fails without a GPU.
            "triton": why_without_triton(group["params"][0].device) is None,
        }


def why_without_triton(device: torch.device) -> str | None:
    """Why optimi's Triton kernels do not make the updates of parameters there; None if they do.

    A kernel adds up atomically what the length of a step follows from, in another order every time.
    """
    if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return "its Triton kernel is not deterministic"
    return triton_problem(device)


def _take_over_count(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Hook before loading: optimi counts updates on the groups, all of which make the same ones.

    The largest, because groups that the checkpoint did not have come with a count of their own.
    """
    counts = [group["step"] for group in state["param_groups"] if "step" in group]
    if counts:
        for group in optimizer.param_groups:
            group.update(step=max(counts).clone(), setup=True)
