"""Batched matrix products with a factor, and a softmax between two of them."""

from __future__ import annotations

import torch
from torch import Tensor


def scaled_product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """``scale * a @ b``, the factor applied to float32 sums before they are rounded."""
    # With beta 0 nothing is read of the first.
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale, out=out)


def softmax_gradient(grad_weights: Tensor, weights: Tensor) -> Tensor:
    """The gradient of scores from that of their softmax along the last dimension."""
    return torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)


def hiding_bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What takes the scores out that are ``hidden``: adding it is far faster than a masked fill."""
    shown = torch.zeros((), dtype=dtype, device=hidden.device)
    return torch.where(hidden, shown - torch.inf, shown)
