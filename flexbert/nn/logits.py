"""Logits that are not there yet."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class DeferredLogits(NamedTuple):
    """What logits ``[M, V]`` are the product of: ``features @ matrix.T + bias``.

    A vocabulary is so large that all logits of a micro-batch are often the largest tensor there is;
    who needs a few rows at a time makes them so.

    Attributes:
        features: ``[M, E]``.
        matrix: ``[V, E]``.
        bias: ``[V]`` or None.
        dtype: in which the product is taken and the logits come out.
    """

    features: Tensor
    matrix: Tensor
    bias: Tensor | None
    dtype: torch.dtype

    def computed(self) -> Tensor:
        """All of them, ``[M, V]``; gradients flow."""
        return F.linear(*self.cast())

    def cast(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, matrix and bias in ``dtype``."""
        bias = None if self.bias is None else self.bias.to(self.dtype)
        return self.features.to(self.dtype), self.matrix.to(self.dtype), bias


def product_dtype(features: Tensor) -> torch.dtype:
    """In which a matrix product with ``features`` is taken here: autocast's dtype, if it is on."""
    device = features.device.type
    # The meta device has none.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return features.dtype
