"""FlashAttention as PyTorch ships it: ``torch.nn.attention.varlen``.

It is a custom op with a gradient already, so nothing is wrapped here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend


def _offered() -> Callable[..., Any] | None:
    """The function, from torch 2.11 on: earlier ones lack it or its ``window_size``."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


varlen_attn = _offered()


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    window: int | None,
    scale: float,
) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.backend.AttendFunction`."""
    assert varlen_attn is not None
    reach = -1 if window is None else window // 2
    return varlen_attn(
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens,
        max_seqlen,
        max_seqlen,
        scale=scale,
        window_size=(reach, reach),
    )


def _why_not(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    if varlen_attn is None:
        return f"needs torch 2.11 or newer, this is {torch.__version__}"
    if device.type != "cuda":
        return f"needs a CUDA device, this is {device.type}"
    if torch.cuda.get_device_properties(device).major < 8:
        return "needs a GPU of compute capability 8.0 (Ampere) or newer"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"computes in bfloat16 or float16, not in {dtype}: set precision to amp_bf16"
    if head_dim % 8 or head_dim > 256:
        return f"needs a head size that is a multiple of 8 and at most 256, this is {head_dim}"
    return None


BACKEND = Backend("torch_varlen", flash_attention, _why_not)
