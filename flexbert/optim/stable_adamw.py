"""StableAdamW (Wortsman et al. 2023), as torch-optimi implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from flexbert.config.optimizer import AdamFamilyConfig, Multipliers, ParameterGroup
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.optim.groups import keep_own_groups, parameter_groups


@register("stable_adamw")
@dataclass(frozen=True, kw_only=True)
class StableAdamW(AdamFamilyConfig):
    """AdamW with Adafactor's update clipping and fully decoupled weight decay.

    ``weight_decay`` is the share by which an update at the base learning rate shrinks a weight; it
    is scaled by lr / base lr and by nothing else.

    Attributes:
        clip_anyway: clip gradients by ``clip_norm`` although every update is clipped.
    """

    clip_anyway: bool = False

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
        # The groups hold both; told here too, because optimi then warns of a high weight decay.
        optimizer = OptimiStableAdamW(groups, lr=self.lr, decouple_lr=True)
        optimizer.register_load_state_dict_pre_hook(_take_over_count)
        optimizer.register_load_state_dict_pre_hook(keep_own_groups)
        optimizer.register_step_pre_hook(_refresh_eps)
        return optimizer

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        scale = multipliers.within(group)
        # Optimi takes its Triton path whenever triton is installed, and fails there without a GPU.
        on_gpu = group["params"][0].is_cuda
        return {
            "lr": self.lr * scale.lr,
            "max_lr": self.peak_lr(group),
            "decouple_lr": True,
            "beta1": self.betas[0],
            "beta2": self.betas[1],
            "eps": self.eps,
            "weight_decay": self.weight_decay * scale.weight_decay,
            "triton": on_gpu,
            "foreach": not on_gpu,
        }


def _take_over_count(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Hook before loading: optimi counts updates on the groups, all of which make the same ones.

    The largest, because groups that the checkpoint did not have come with a count of their own.
    """
    counts = [group["step"] for group in state["param_groups"] if "step" in group]
    if counts:
        for group in optimizer.param_groups:
            group.update(step=max(counts).clone(), setup=True)


def _refresh_eps(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Hook before an update: off the Triton path, optimi keeps the first eps^2 as a state."""
    for group in optimizer.param_groups:
        if not group["triton"]:
            for parameter in group["params"]:
                if parameter in optimizer.state:
                    optimizer.state[parameter]["eps_sq"].fill_(group["eps"] ** 2)
