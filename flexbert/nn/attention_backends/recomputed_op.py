"""A custom op from plain differentiable torch code, whose backward runs the forward again.

torch.compile then sees one call of stable shape, whatever loops and data-dependent shapes are
inside, and only the inputs are kept for the backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import AttendFunction

_INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, int max_seqlen, int? window, float scale"
)


def recomputed_op(name: str, attend: AttendFunction) -> AttendFunction:
    """Register ``attend`` as the custom op ``flexbert::<name>``, with its gradient."""

    def forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> Tensor:
        # The backward runs outside autocast, and must recompute what the forward computed.
        with torch.autocast(q.device.type, enabled=False):
            return attend(q, k, v, *options).contiguous()

    def backward(
        grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *options: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Inside a custom op autograd is switched off; torch.func brings its own.
        pull_back = torch.func.vjp(lambda *qkv: forward(*qkv, *options), q, k, v)[1]
        grad_q, grad_k, grad_v = pull_back(grad)
        return grad_q.contiguous(), grad_k.contiguous(), grad_v.contiguous()

    def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        q, k, v, cu_seqlens, *ctx.options = inputs
        ctx.save_for_backward(q, k, v, cu_seqlens)

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = backward_op(grad, *ctx.saved_tensors, *ctx.options)
        return *grads, None, None, None, None

    forward_op = torch.library.custom_op(
        f"flexbert::{name}", forward, mutates_args=(), schema=f"({_INPUTS}) -> Tensor"
    )
    backward_op = torch.library.custom_op(
        f"flexbert::{name}_backward",
        backward,
        mutates_args=(),
        schema=f"(Tensor grad, {_INPUTS}) -> (Tensor, Tensor, Tensor)",
    )
    forward_op.register_fake(lambda q, *_: q.new_empty(q.shape))
    backward_op.register_fake(
        lambda grad, q, k, v, *_: (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape))
    )
    forward_op.register_autograd(differentiate, setup_context=save_inputs)
    return forward_op
