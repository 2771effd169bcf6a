"""FlashAttention 2 as PyTorch ships it: ``torch.nn.attention.varlen``.

It is a custom op with a fake implementation and a gradient already (``torch_attn::_varlen_attn``),
so nothing is wrapped here. Its backward asks ``torch.use_deterministic_algorithms`` itself (ATen's
``_flash_attention_backward``), so nothing is passed for that; with ``warn_only`` it only warns.
Dropout is fixed at 0 in the op (torch 2.11), and a bias is no argument of it.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from flexbert.nn.attention_backends import flash
from flexbert.nn.attention_backends.backend import Backend, Call, Limit


def _offered() -> Any:
    """The function, from torch 2.11 on: earlier ones lack it or its ``window_size``."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


def _extra_arguments(function: Any) -> dict[str, bool]:
    """Torch's later versions want to be told of grouped queries; 2.11 takes them as they come."""
    known = inspect.signature(function).parameters if function else {}
    return {"enable_gqa": True} if "enable_gqa" in known else {}


varlen_attn = _offered()
EXTRA_ARGUMENTS = _extra_arguments(varlen_attn)


def attend(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.backend.AttendFunction`."""
    assert call.alibi_slopes is None
    assert not call.dropout
    q, k, v = flash.dense_rows(q, k, v)
    return varlen_attn(
        q,
        k,
        v,
        call.cu_seqlens,
        call.cu_seqlens,
        call.max_seqlen,
        call.max_seqlen,
        scale=call.scale,
        window_size=flash.window_size(call.window),
        **EXTRA_ARGUMENTS,
    )


def _unavailable(device: torch.device) -> str | None:
    problem = flash.gpu_problem(device, *flash.AMPERE_OR_NEWER)
    if problem is None and varlen_attn is None:
        problem = f"needs torch 2.11 or newer, this is {torch.__version__}"
    return problem


BACKEND = Backend(
    name="torch_varlen",
    attend=attend,
    devices="CUDA, Ampere or newer; torch 2.11",
    unavailable=_unavailable,
    dtypes=flash.DTYPES,
    # Checked in the kernel's mha_varlen_fwd; unlike the flash-attn package, torch does not pad.
    head_dim_multiple=8,
    limits=(
        flash.LARGEST_HEAD,
        Limit("has no ALiBi: torch's varlen_attn takes no bias", ("alibi",)),
        Limit("has no dropout: torch's varlen_attn fixes it at 0", ("dropout",)),
    ),
)
