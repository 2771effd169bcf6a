"""Which weights of two models begin with the same values, found without drawing any.

A model's weights are drawn one after the other from one generator. So two parameters of one name
and shape begin equal if they are filled in the same way and as many numbers were drawn before; one
matrix of another size changes all that are drawn after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flexbert.config.model import ModelConfig
from flexbert.nn.build import new_model

# A normal of that many numbers, or a multiple, takes one draw for each, as a uniform always does.
_NORMALS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class SharedWeights:
    """Parameters that two models both have, by name and shape.

    Attributes:
        count: how many weights they have.
        equal: how many of these begin with the same value under the same seed.
    """

    count: int
    equal: int


def shared_weights(model: ModelConfig, other: ModelConfig) -> SharedWeights:
    """How much of two models begins equal, if both are drawn from one seed."""
    own, others = _fillings(model), _fillings(other)
    shared = [
        (filling, others[name])
        for name, filling in own.items()
        if name in others and filling.shape == others[name].shape
    ]
    return SharedWeights(
        count=sum(filling.shape.numel() for filling, _ in shared),
        equal=sum(one.shape.numel() for one, two in shared if one == two),
    )


@dataclass(frozen=True, kw_only=True)
class _Filling:
    """How a parameter gets its values: the operations on it, each with what it depends on."""

    shape: torch.Size
    operations: tuple[Any, ...]


def _fillings(config: ModelConfig) -> dict[str, _Filling]:
    with torch.device("meta"):
        model = new_model(config)
    parameters = dict(model.named_parameters())
    watch = _Watch({id(parameter): name for name, parameter in parameters.items()})
    with torch.random.fork_rng(devices=[]), watch:
        config.init.apply(model, config)
    return {
        name: _Filling(shape=parameter.shape, operations=tuple(watch.operations[name]))
        for name, parameter in parameters.items()
    }


class _Watch(TorchDispatchMode):
    """Notes what is done to parameters and how many random numbers are drawn before.

    What is done in place to a parameter is noted and not done: it has no memory.
    """

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.operations: dict[str, list[Any]] = {name: [] for name in names.values()}
        self._names = names
        self._views: list[Tensor] = []  # kept, so that no other tensor takes one's id
        # Whole numbers are draws that add up; a text is an operation that takes an odd number.
        self._drawn: list[int | str] = [0]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        tensors = list(_tensors((*args, *(kwargs or {}).values())))
        named = [self._names[id(tensor)] for tensor in tensors if id(tensor) in self._names]
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        depends = tuple(self._drawn) if is_random or len(named) < len(tensors) else ()
        values = [value for value in (*args, *(kwargs or {}).items()) if not _has_tensor(value)]
        for name in named[:1]:
            self.operations[name].append((str(func), repr(values), depends, tuple(named[1:])))
        in_place = str(func.overloadpacket).endswith("_")
        result = args[0] if named and in_place else func(*args, **(kwargs or {}))
        if is_random:
            self._draw(func, result)
        if named and not in_place and isinstance(result, Tensor):
            self._names[id(result)] = named[0]
            self._views.append(result)
        return result

    def _draw(self, func: Callable[..., Any], result: Any) -> None:
        (size, *_) = [tensor.numel() for tensor in _tensors((result,))] or [0]
        name = str(func).split(".")[1]
        last = self._drawn[-1]
        regular = name == "uniform_" or (name == "normal_" and size % _NORMALS_AT_ONCE == 0)
        if regular and isinstance(last, int):
            self._drawn[-1] = last + size
        else:
            self._drawn += [size] if regular else [f"{func} {size}", 0]


def _tensors(values: tuple[Any, ...]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, tuple) and any(isinstance(part, Tensor) for part in value)
    )
