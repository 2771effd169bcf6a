"""An optimizer's state by the names of parameters, out of torch's numbering and back into it.

Names go on where numbers do not: another stage may group parameters in another way. A checkpoint
holds no hyperparameter, so that none of it can come back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flexbert.checkpoint.checkpoint import OptimizerState
from flexbert.checkpoint.checkpoint_file import CheckpointError
from flexbert.checkpoint.mapped import copy_mapped

# Where optimi counts updates: on a group, for all its parameters.
_GROUP_COUNT = "step"


def optimizer_state(name: str, model: nn.Module, optimizer: Optimizer) -> OptimizerState:
    """What an optimizer remembers; tensors are its own, not copies.

    Args:
        name: the optimizer's name in a recipe.
    """
    counts = [int(g[_GROUP_COUNT]) for g in optimizer.param_groups if _GROUP_COUNT in g]
    return OptimizerState(
        name=name,
        parameters={
            parameter_name: dict(optimizer.state[parameter])
            for parameter_name, parameter in model.named_parameters()
            if parameter in optimizer.state
        },
        updates=max(counts, default=None),
    )


def load_optimizer_state(saved: OptimizerState, model: nn.Module, optimizer: Optimizer) -> None:
    """Give an optimizer the state of a checkpoint, each tensor copied from the mapped file.

    Raises:
        CheckpointError: if it holds a parameter that the model has not, or one of another shape.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    shapes = {name: parameter.shape for parameter, name in names.items()}
    for name, kept in saved.parameters.items():
        _check(name, kept, shapes.get(name))
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = {parameter: number for number, parameter in enumerate(ordered)}
    count = (
        {}
        if saved.updates is None
        else {_GROUP_COUNT: torch.tensor(saved.updates, dtype=torch.int32)}
    )
    optimizer.load_state_dict(
        {
            "state": {
                number: {key: _copied(v) for key, v in saved.parameters[names[p]].items()}
                for p, number in numbers.items()
                if names[p] in saved.parameters
            },
            # Each optimizer keeps its own groups (keep_own_groups) and takes the count alone.
            "param_groups": [
                {"params": [numbers[p] for p in group["params"]], **count}
                for group in optimizer.param_groups
            ],
        }
    )


def _copied(value: Any) -> Any:
    return copy_mapped(value) if isinstance(value, Tensor) else value


def _check(name: str, kept: Any, shape: torch.Size | None) -> None:
    if shape is None:
        raise CheckpointError(f"the optimizer's state has {name}, which the model has not")
    if not isinstance(kept, dict):
        raise CheckpointError(f"the optimizer's state of {name} is no mapping")
    for key, value in kept.items():
        # Single numbers have shapes of their own: optimi's Triton kernel keeps some as [1].
        if isinstance(value, Tensor) and value.numel() > 1 and value.shape != shape:
            raise CheckpointError(
                f"the optimizer's {key} of {name} has the shape {list(value.shape)}, "
                f"not {list(shape)}"
            )
