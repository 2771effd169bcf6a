"""Muon for the matrices of linear layers, AdamW for everything else, in one optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from flexbert.config.fields import COMPUTATION, key
from flexbert.config.optimizer import AdamFamilyConfig, Multipliers, ParameterGroup
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.optim.adamw import FUSED
from flexbert.optim.groups import keep_own_groups, parameter_groups


@register("muon")
@dataclass(frozen=True, kw_only=True)
class Muon(AdamFamilyConfig):
    """Muon (Jordan et al. 2024) for linear layers' matrices, AdamW for all other parameters.

    A matrix moves along its momentum with all singular values brought near one by Newton-Schulz
    iteration, in bfloat16. Fused matrices, such as queries, keys and values, are taken as one.
    Embeddings, the decoder, norms and biases are AdamW's, with ``betas`` and ``eps``.

    Attributes:
        momentum: of the matrices' gradients.
        nesterov: look ahead along the momentum.
        ns_steps: Newton-Schulz iterations.
        adjust_lr: by what a matrix [A, B] multiplies lr. ``match_rms_adamw``: 0.2 sqrt(max(A, B)),
            so that updates are as large as AdamW's and lr is too (Liu et al. 2025).
            ``original``: sqrt(max(1, A / B)).
        adamw_lr: base learning rate of AdamW's parameters; null is ``lr``.
    """

    weight_decay: float = 0.1
    momentum: float = key(COMPUTATION, default=0.95, above=0, below=1)
    nesterov: bool = key(COMPUTATION, default=True)
    ns_steps: int = key(COMPUTATION, default=5, above=0, below=100)
    adjust_lr: Literal["match_rms_adamw", "original"] = key(COMPUTATION, default="match_rms_adamw")
    adamw_lr: float | None = key(COMPUTATION, default=None, above=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                "name",
                f"muon comes with torch 2.9 and later, and this is torch {torch.__version__}",
            )

    def state_size(self, parameter: nn.Parameter, *, of_linear: bool) -> int:
        return parameter.numel() if of_linear else super().state_size(parameter, of_linear=False)

    def build(self, model: nn.Module) -> Optimizer:
        matrices = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
        groups = parameter_groups(model, self, lambda p: "muon" if p in matrices else "adamw")
        optimizer = MuonWithAdamW(groups)
        optimizer.register_load_state_dict_pre_hook(keep_own_groups)
        return optimizer

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        scale = multipliers.within(group)
        weight_decay = self.weight_decay * scale.weight_decay
        if group["algorithm"] == "muon":
            return {
                "lr": self.lr * scale.lr,
                "momentum": self.momentum,
                "nesterov": self.nesterov,
                "ns_steps": self.ns_steps,
                "adjust_lr_fn": self.adjust_lr,
                "weight_decay": weight_decay,
            }
        return {
            "lr": (self.adamw_lr or self.lr) * scale.lr,
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": weight_decay,
            **FUSED,
        }


class MuonWithAdamW(Optimizer):
    """One optimizer of torch's two, because Composer takes one.

    It holds all groups and all states; the two inside only update, each its own groups.
    """

    def __init__(self, groups: list[ParameterGroup]) -> None:
        """
        Args:
            groups: each with its ``algorithm``, ``muon`` or ``adamw``.
        """
        self._optimizers: dict[str, Optimizer] = {
            "muon": torch.optim.Muon(_groups_of(groups, "muon")),
            "adamw": torch.optim.AdamW(_groups_of(groups, "adamw")),
        }
        # After the two, which have written their defaults into the groups.
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for algorithm, optimizer in self._optimizers.items():
            # Set each time: loading a checkpoint replaces both.
            optimizer.state = self.state
            optimizer.param_groups = _groups_of(self.param_groups, algorithm)
            optimizer.step()
        return loss


def _groups_of(groups: list[ParameterGroup], algorithm: str) -> list[ParameterGroup]:
    return [group for group in groups if group["algorithm"] == algorithm]
