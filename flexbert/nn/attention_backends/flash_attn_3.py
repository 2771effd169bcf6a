"""FlashAttention 3 for Hopper GPUs, package ``flash-attn-3``.

Wrapped into a custom op of our own. The package registers C++ operators, ``flash_attn_3::fwd`` and
``bwd``, without fake implementations, so that torch.compile cannot trace what is built on them, the
torch.autograd.Function in ``hopper/flash_attn_interface.py`` of flash-attention 2.8.3. Later
versions of that file wrap them into custom ops, but with a backward for padded batches only.

The operators are called rather than ``flash_attn_varlen_func``, because their argument names have
not changed from 2.8 to 3.0.0, while that function has returned (out, lse), then out, then either by
``return_attn_probs``, and the log-sum-exp is needed for the backward. ``torch.nn.attention`` calls
the same operators (its ``_fa3.py``, torch 2.11). Older packages without them are refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flexbert.nn.attention_backends import flash
from flexbert.nn.attention_backends.backend import Backend, Call, Limit

# Arguments of fwd that packed self-attention leaves alone. Some versions give them no defaults.
_UNUSED = dict.fromkeys(
    (
        *("k_new", "v_new", "q_v", "out", "cu_seqlens_k_new", "seqused_q", "seqused_k"),
        *("page_table", "kv_batch_idx", "leftpad_k", "rotary_cos", "rotary_sin"),
        *("seqlens_rotary", "q_descale", "k_descale", "v_descale"),
    )
)


def _operators(_: Any) -> Any:
    operators = torch.ops.flash_attn_3
    if not (hasattr(operators, "fwd") and hasattr(operators, "bwd")):
        raise ImportError("it has no operators torch.ops.flash_attn_3.fwd and bwd")
    return operators


operators, package_problem = flash.load("flash_attn_3._C", _operators, "flash-attn-3")


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    window: int | None,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    """The output ``[N, H, D]`` and the log-sum-exp of the scores ``[H, N]``, float32."""
    left, right = flash.window_size(window)
    out, lse, *_ = operators.fwd(
        q=q,
        k=k,
        v=v,
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        max_seqlen_q=max_seqlen,
        max_seqlen_k=max_seqlen,
        softmax_scale=scale,
        is_causal=False,
        window_size_left=left,
        window_size_right=right,
        # The default of flash_attn_varlen_func; more are summed in no fixed order.
        num_splits=1,
        **_UNUSED,
    )
    return out, lse


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    window: int | None,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    left, right = flash.window_size(window)
    # Given, because what bwd returns besides has changed between versions.
    grads = (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape))
    operators.bwd(
        dout=grad.contiguous(),
        q=q,
        k=k,
        v=v,
        out=out,
        softmax_lse=lse,
        dq=grads[0],
        dk=grads[1],
        dv=grads[2],
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        seqused_q=None,
        seqused_k=None,
        max_seqlen_q=max_seqlen,
        max_seqlen_k=max_seqlen,
        softmax_scale=scale,
        is_causal=False,
        window_size_left=left,
        window_size_right=right,
        deterministic=deterministic,
    )
    return grads


_OPTIONS = "Tensor cu_seqlens, int max_seqlen, int? window, float scale, bool deterministic"
forward_op = torch.library.custom_op(
    "flexbert::flash_attn_3",
    _forward,
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor, Tensor)",
)
backward_op = torch.library.custom_op(
    "flexbert::flash_attn_3_backward",
    _backward,
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    f"{_OPTIONS}) -> (Tensor, Tensor, Tensor)",
)


@forward_op.register_fake
def _(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@backward_op.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, cu_seqlens, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, *output, cu_seqlens)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grads = backward_op(grad, *ctx.saved_tensors, *ctx.options)
    return *grads, *[None] * 5


forward_op.register_autograd(_differentiate, setup_context=_save)


def attend(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.backend.AttendFunction`."""
    assert call.alibi_slopes is None
    assert not call.dropout
    deterministic = torch.are_deterministic_algorithms_enabled()
    rows = flash.dense_rows(q, k, v)
    return forward_op(
        *rows, call.cu_seqlens, call.max_seqlen, call.window, call.scale, deterministic
    )[0]


def _unavailable(device: torch.device) -> str | None:
    return flash.gpu_problem(device, *flash.HOPPER) or package_problem


BACKEND = Backend(
    name="flash_attn_3",
    attend=attend,
    devices="CUDA, Hopper; flash-attn-3",
    unavailable=_unavailable,
    dtypes=flash.DTYPES,
    # Checked in hopper/flash_api.cpp.
    head_dim_multiple=8,
    limits=(
        flash.LARGEST_HEAD,
        Limit("has no ALiBi: FlashAttention 3 takes no bias", ("alibi",)),
        Limit("has no dropout: FlashAttention 3 drops nothing", ("dropout",)),
        Limit(
            "has no deterministic mode for heads larger than 192: its backward refuses them",
            ("deterministic",),
            above_head_dim=192,
        ),
        # Its sources of the time of 2.8 allocate dk_semaphore and dv_semaphore with torch::empty;
        # later ones zero them.
        Limit(
            "has no deterministic mode for grouped queries: "
            "some versions read uninitialised semaphores there",
            ("deterministic", "grouped"),
        ),
    ),
)
