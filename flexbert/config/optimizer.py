"""How parameters are updated: what every optimizer's node in a recipe has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flexbert.config.fields import COMPUTATION, Node, key
from flexbert.config.registry import Component
from flexbert.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

ParameterGroup = dict[str, Any]


@dataclass(frozen=True)
class Multipliers:
    """Where the schedules stand at an update, as fractions of the recipe's lr and weight decay."""

    lr: float
    weight_decay: float = 1.0

    def within(self, group: ParameterGroup) -> Multipliers:
        """These times the group's own, which :func:`flexbert.optim.groups.parameter_groups` set."""
        return Multipliers(
            lr=self.lr * group["lr_multiplier"],
            weight_decay=self.weight_decay * group["weight_decay_multiplier"],
        )


@dataclass(frozen=True, kw_only=True)
class GroupConfig(Node):
    """Parameters that are updated differently from the rest.

    Attributes:
        parameters: pattern over parameter names, ``encoder.embedding.*`` or ``*.bias``.
        lr_multiplier: of the learning rate; 0 leaves the parameters as they are.
        weight_decay_multiplier: of the weight decay; null is the rule, 1 for matrices and 0 for
            norms and biases.
    """

    parameters: str = key(COMPUTATION)
    lr_multiplier: float = key(COMPUTATION, default=1.0, at_least=0)
    weight_decay_multiplier: float | None = key(COMPUTATION, default=None, at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr_multiplier == 1 and self.weight_decay_multiplier is None:
            raise ConfigError(
                "lr_multiplier", "1 changes nothing without a weight_decay_multiplier"
            )
        if self.lr_multiplier == 0 and self.weight_decay_multiplier is not None:
            raise ConfigError(
                "weight_decay_multiplier",
                "does nothing with lr_multiplier 0, which leaves the parameters as they are",
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Component, ABC, family="optimizer"):
    """What every optimizer has.

    Attributes:
        lr: base learning rate, which the schedule scales.
        weight_decay: of matrices; norms and biases have none unless ``groups`` gives them one.
        groups: exceptions; for each parameter the first pattern that matches it counts.
        clip_norm: gradients are scaled down to this L2 norm over all parameters; null is never.
    """

    lr: float = key(COMPUTATION, above=0)
    weight_decay: float = key(COMPUTATION, at_least=0)
    groups: tuple[GroupConfig, ...] = key(COMPUTATION, default=())
    clip_norm: float | None = key(COMPUTATION, default=None, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for index, group in enumerate(self.groups):
            if group.weight_decay_multiplier and self.weight_decay == 0:
                raise ConfigError(
                    f"groups.{index}.weight_decay_multiplier", "does nothing with weight_decay 0"
                )

    @abstractmethod
    def build(self, model: nn.Module) -> Optimizer:
        """An optimizer over the model's parameters, grouped by rule.

        Raises:
            ConfigError: if a pattern in ``groups`` has no effect on this model.
        """

    @abstractmethod
    def state_size(self, parameter: nn.Parameter, *, of_linear: bool) -> int:
        """How many numbers (float32) it keeps for a parameter.

        Args:
            of_linear: whether the parameter is the matrix of a linear layer.
        """

    @abstractmethod
    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        """What a parameter group holds while the schedules stand at ``multipliers``.

        Set on the group before every update, so that values that come back with a checkpoint are
        never used.
        """

    def group_weight_decay(self, group: ParameterGroup) -> float:
        """The weight decay that a group holds, in the recipe's terms: for the log."""
        return float(group["weight_decay"])


@dataclass(frozen=True, kw_only=True)
class AdamFamilyConfig(OptimizerConfig):
    """An optimizer with Adam's two moments (Kingma and Ba 2015).

    Attributes:
        betas: decay rates of the moving averages of gradients and of their squares.
        eps: added to the square root that an update is divided by.
    """

    betas: tuple[float, float] = key(COMPUTATION, at_least=0, below=1)
    eps: float = key(COMPUTATION, above=0)

    def state_size(self, parameter: nn.Parameter, *, of_linear: bool) -> int:
        return 2 * parameter.numel()

    def hyperparameters(self, group: ParameterGroup, multipliers: Multipliers) -> ParameterGroup:
        scale = multipliers.within(group)
        return {
            "lr": self.lr * scale.lr,
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": self.weight_decay * scale.weight_decay,
        }

    def peak_lr(self, group: ParameterGroup) -> float:
        """The group's learning rate at the schedule's height, which decoupled decay divides by.

        Never 0: a group whose learning rate is multiplied by 0 is then not decayed either.
        """
        return self.lr * group["lr_multiplier"] or self.lr
