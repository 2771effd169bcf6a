"""StableAdamW (Wortsman et al. 2023), as torch-optimi implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from flexbert.config.registry import register
from flexbert.config.training import OptimizerConfig
from flexbert.errors import ConfigError
from flexbert.optim.groups import DECAY, parameter_groups


@register("stable_adamw")
@dataclass(frozen=True, kw_only=True)
class StableAdamW(OptimizerConfig):
    """AdamW with Adafactor's update clipping and fully decoupled weight decay.

    ``weight_decay`` is the share by which an update at the base learning rate shrinks a weight; it
    is scaled by lr / base lr and by nothing else.
    """

    lr: float
    betas: tuple[float, float] = (0.90, 0.98)
    eps: float = 1e-6
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError("lr", f"must be positive, got {self.lr}")
        for index, beta in enumerate(self.betas):
            if not 0 <= beta < 1:
                raise ConfigError(f"betas.{index}", f"must be at least 0 and below 1, got {beta}")
        if self.eps <= 0:
            raise ConfigError("eps", f"must be positive, got {self.eps}")
        if self.weight_decay < 0:
            raise ConfigError("weight_decay", f"must not be negative, got {self.weight_decay}")

    def build(self, model: nn.Module) -> Optimizer:
        # Imported here because a plan needs the numbers above and not the optimizer.
        from optimi import StableAdamW as OptimiStableAdamW

        return OptimiStableAdamW(
            parameter_groups(model),
            lr=self.lr,
            max_lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decouple_lr=True,
            **_implementation(next(model.parameters())),
        )

    def hyperparameters(self, group: dict[str, Any], multiplier: float) -> dict[str, Any]:
        return {
            "lr": self.lr * multiplier,
            "max_lr": self.lr,
            "beta1": self.betas[0],
            "beta2": self.betas[1],
            "eps": self.eps,
            "weight_decay": self.weight_decay if group[DECAY] else 0.0,
            **_implementation(group["params"][0]),
        }


def _implementation(parameter: Tensor) -> dict[str, bool]:
    """Optimi takes its Triton path whenever triton is installed, and fails there without a GPU."""
    return {"triton": parameter.is_cuda, "foreach": not parameter.is_cuda}
