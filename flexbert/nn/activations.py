"""Activation functions by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from flexbert.errors import ConfigError, did_you_mean

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def check_activation(key: str, name: str) -> None:
    """Raises: ConfigError for a name that is no activation."""
    if name not in ACTIVATIONS:
        raise ConfigError(key, f"no activation {name!r}; {did_you_mean(name, ACTIVATIONS)}")
