"""A custom op from plain differentiable torch code, whose backward runs the forward again.

torch.compile then sees one call of stable shape, whatever loops and data-dependent shapes are
inside, and only the inputs are kept for the backward. One of them is the seed of dropout: drawn
outside, so that the op is a function of its inputs and the second run drops what the first did.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import AttendFunction, Call
from flexbert.nn.attention_backends.seeded import SEED_LIMIT

_INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, Tensor? alibi_slopes, Tensor? seed, "
    "int max_seqlen, int? window, float scale, float dropout"
)


class SeededAttention(Protocol):
    """:class:`AttendFunction` with the seed of its dropout.

    Args:
        seed: int64 ``[]`` on the CPU, so that reading it waits for no GPU; None without dropout.
    """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, call: Call, seed: Tensor | None
    ) -> Tensor: ...


class AttentionBackward(Protocol):
    """The gradients of q, k and v from that of the result; of attention without dropout."""

    def __call__(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, call: Call
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def recomputed_op(
    name: str, attend: SeededAttention, attend_backward: AttentionBackward | None = None
) -> AttendFunction:
    """Register ``attend`` as the custom op ``flexbert::<name>``, with its gradient.

    Args:
        attend_backward: its gradient; None derives it by running the forward again.
    """

    def call_and_seed(
        cu_seqlens: Tensor,
        alibi_slopes: Tensor | None,
        seed: Tensor | None,
        max_seqlen: int,
        window: int | None,
        scale: float,
        dropout: float,
    ) -> tuple[Call, Tensor | None]:
        return Call(cu_seqlens, max_seqlen, window, scale, alibi_slopes, dropout), seed

    def forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> Tensor:
        call, seed = call_and_seed(*options)
        # The backward runs outside autocast, and must recompute what the forward computed.
        with torch.autocast(q.device.type, enabled=False):
            return attend(q, k, v, call, seed).contiguous()

    def backward(
        grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *options: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        if attend_backward is None:
            # Inside a custom op autograd is switched off; torch.func brings its own.
            pull_back = torch.func.vjp(lambda *qkv: forward(*qkv, *options), q, k, v)[1]
            grad_q, grad_k, grad_v = pull_back(grad)
        else:
            call, _ = call_and_seed(*options)
            with torch.autocast(q.device.type, enabled=False):
                grad_q, grad_k, grad_v = attend_backward(grad, q, k, v, call)
        return grad_q.contiguous(), grad_k.contiguous(), grad_v.contiguous()

    def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, max_seqlen, window, scale, dropout = inputs
        ctx.save_for_backward(*tensors)
        ctx.options = (max_seqlen, window, scale, dropout)

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = backward_op(grad, *ctx.saved_tensors, *ctx.options)
        return *grads, *[None] * 7

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

    def differentiable(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        seed = torch.randint(SEED_LIMIT, (), device="cpu") if call.dropout else None
        return forward_op(
            q,
            k,
            v,
            call.cu_seqlens,
            call.alibi_slopes,
            seed,
            call.max_seqlen,
            call.window,
            call.scale,
            call.dropout,
        )

    return differentiable
