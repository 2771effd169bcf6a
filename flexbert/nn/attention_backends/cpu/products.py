"""Batched matrix products with a factor, and a softmax between two of them."""

from __future__ import annotations

import torch
from torch import Tensor


def scaled_product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """``scale * a @ b``, the factor applied to float32 sums before they are rounded."""
    # With beta 0 nothing is read of the first.
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale, out=out)


def attention_weights(queries: Tensor, keys: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Probabilities ``[B, Q, K]`` of queries ``[B, Q, D]`` on keys ``[B, K, D]``.

    Args:
        bias: broadcast to the scores, from which their product starts: see :func:`hiding_bias`.
    """
    if bias is None:
        return scaled_product(queries, keys.mT, scale).softmax(-1)
    return torch.baddbmm(bias, queries, keys.mT, alpha=scale).softmax(-1)


def softmax_gradient(grad_weights: Tensor, weights: Tensor) -> Tensor:
    """The gradient of scores from that of their softmax along the last dimension."""
    return torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)


def hiding_bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What takes the scores out that are ``hidden``: a masked fill is far slower."""
    shown = torch.zeros((), dtype=dtype, device=hidden.device)
    return torch.where(hidden, shown - torch.inf, shown)
