"""Which parameters share their multipliers of learning rate and weight decay."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from flexbert.config.optimizer import GroupConfig, Multipliers, OptimizerConfig, ParameterGroup
from flexbert.errors import ConfigError


def parameter_groups(
    model: nn.Module,
    config: OptimizerConfig,
    algorithm: Callable[[nn.Parameter], str | None] = lambda parameter: None,
) -> list[ParameterGroup]:
    """The trainable parameters, those with the same multipliers together.

    Weight decay pulls matrices and leaves norms and biases alone: every parameter with fewer than
    two dimensions. ``config.groups`` makes exceptions. The groups follow from the order of the
    model's parameters, so the same model and config always give the same ones.

    Args:
        algorithm: which update a parameter gets, where an optimizer has several.

    Returns:
        Groups marked with ``lr_multiplier``, ``weight_decay_multiplier`` and ``algorithm``, which
        hold the config's hyperparameters at the schedules' height.

    Raises:
        ConfigError: if a pattern in ``config.groups`` has no effect on this model.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    exceptions = _first_matches(list(named), config.groups)
    members: dict[tuple[float, float, str | None], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named.items():
        lr, weight_decay = _multipliers(parameter, exceptions[name])
        members[lr, weight_decay, algorithm(parameter)].append(parameter)
    groups: list[ParameterGroup] = [
        {
            "params": parameters,
            "lr_multiplier": lr,
            "weight_decay_multiplier": weight_decay,
            "algorithm": kind,
        }
        for (lr, weight_decay, kind), parameters in members.items()
    ]
    return [group | config.hyperparameters(group, Multipliers(lr=1.0)) for group in groups]


def keep_own_groups(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Hook before loading: moments come from the checkpoint, and nothing of its groups.

    Hyperparameters are the recipe's, and so is which parameters share them. Flags such as ``fused``
    are the device's: torch decides by them where the loaded state is placed.
    """
    groups = [
        own | {"params": saved["params"]}
        for own, saved in zip(optimizer.param_groups, state["param_groups"], strict=True)
    ]
    return state | {"param_groups": groups}


def _first_matches(
    names: Sequence[str], exceptions: Sequence[GroupConfig]
) -> dict[str, GroupConfig | None]:
    """For each parameter's name the exception that counts, None where there is none."""
    matches = {
        name: next((e for e in exceptions if fnmatchcase(name, e.parameters)), None)
        for name in names
    }
    for index, exception in enumerate(exceptions):
        if any(match is exception for match in matches.values()):
            continue
        pattern = exception.parameters
        if any(fnmatchcase(name, pattern) for name in names):
            problem = "matches only parameters that earlier patterns match"
        else:
            (nearest,) = difflib.get_close_matches(pattern, names, n=1, cutoff=0)
            problem = f"matches no parameter; the nearest is {nearest!r}"
        raise ConfigError(f"groups.{index}.parameters", f"{pattern!r} {problem}")
    return matches


def _multipliers(parameter: nn.Parameter, exception: GroupConfig | None) -> tuple[float, float]:
    """Of the learning rate and of the weight decay."""
    by_rule = 1.0 if parameter.ndim >= 2 else 0.0
    if exception is None:
        return 1.0, by_rule
    given = exception.weight_decay_multiplier
    return exception.lr_multiplier, by_rule if given is None else given
