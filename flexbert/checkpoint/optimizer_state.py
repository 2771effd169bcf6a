"""An optimizer's state by the names of parameters, out of torch's numbering and back into it.

Names go on where numbers do not: another stage may group parameters in another way. A checkpoint
holds no hyperparameter, so that none of it can come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flexbert.checkpoint.checkpoint import OptimizerState
from flexbert.checkpoint.checkpoint_file import CheckpointError
from flexbert.checkpoint.mapped import copy_mapped
from flexbert.checkpoint.weights import is_plain

# Where optimi counts updates: on a group, for all its parameters.
_GROUP_COUNT = "step"
_DTYPES = {torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64}


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
        CheckpointError: if it holds a parameter that the model has not, or of one what no optimizer
            remembers of it.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    shapes = {name: parameter.shape for parameter, name in names.items()}
    for name, kept in saved.parameters.items():
        _check(name, kept, shapes.get(name))
    for group in optimizer.param_groups:
        _check_alike(saved, [names[parameter] for parameter in group["params"]])
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


def _check(name: str, kept: Mapping[str, Any], shape: torch.Size | None) -> None:
    if shape is None:
        raise CheckpointError(f"the optimizer's state has {name}, which the model has not")
    for key, value in kept.items():
        what = f"the optimizer's {key} of {name}"
        if isinstance(value, Tensor):
            # Single numbers have shapes of their own: optimi's Triton kernel keeps some as [1].
            if value.numel() > 1 and value.shape != shape:
                raise CheckpointError(
                    f"{what} has the shape {list(value.shape)}, not {list(shape)}"
                )
            if not is_plain(value) or (value.numel() > 1 and value.dtype not in _DTYPES):
                raise CheckpointError(f"{what} is no plain tensor of numbers")
        elif value is not None and type(value) not in (int, float):
            raise CheckpointError(f"{what} is neither a tensor nor a number")


def _check_alike(saved: OptimizerState, names: Sequence[str]) -> None:
    """Parameters of one group are treated alike, so the same is remembered of each of them."""
    kinds = {
        name: {key: _kind(value) for key, value in saved.parameters[name].items()}
        for name in names
        if name in saved.parameters
    }
    for name, kind in kinds.items():
        first = next(iter(kinds))
        if kind != kinds[first]:
            raise CheckpointError(
                f"the optimizer remembers other things of {name} than of {first}: "
                f"{_listed(kind)}, not {_listed(kinds[first])}"
            )
        if not kind:
            raise CheckpointError(f"the optimizer remembers nothing of {name}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{'tensor' if value.ndim else 'count'} of {value.dtype}"
    return type(value).__name__


def _listed(kind: Mapping[str, str]) -> str:
    return ", ".join(f"{key} ({value})" for key, value in sorted(kind.items())) or "nothing"
