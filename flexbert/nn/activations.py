"""Activation functions by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def _relu_squared(x: Tensor) -> Tensor:
    """Primer's (So et al. 2021)."""
    return F.relu(x).square()


def _gelu_quick(x: Tensor) -> Tensor:
    """The sigmoid approximation of Hendrycks and Gimpel (2016)."""
    return x * torch.sigmoid(1.702 * x)


def _identity(x: Tensor) -> Tensor:
    """For a bilinear gated unit, or a purely linear layer."""
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_quick": _gelu_quick,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "identity": _identity,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}
