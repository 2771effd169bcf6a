"""Dense attention with an N x N mask: slow, obvious, any device and dtype. For tests."""

from __future__ import annotations

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend
from flexbert.nn.attention_backends.recomputed_op import recomputed_op
from flexbert.nn.ragged import sequence_ids


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    window: int | None,
    scale: float,
) -> Tensor:
    """The definition of attention, written down; scores and softmax in at least float32."""
    num_tokens, num_heads, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    queries_per_key = num_heads // k.shape[1]
    k = k.repeat_interleave(queries_per_key, dim=1)
    v = v.repeat_interleave(queries_per_key, dim=1)

    sequence = sequence_ids(cu_seqlens, num_tokens)
    visible = sequence[:, None] == sequence[None, :]
    if window is not None:
        position = torch.arange(num_tokens, device=q.device)
        visible &= (position[:, None] - position[None, :]).abs() <= window // 2

    scores = torch.einsum("qhd,khd->hqk", q.to(dtype), k.to(dtype)) * scale
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", weights, v.to(dtype)).to(q.dtype)


def _why_not(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    return None


BACKEND = Backend("reference", recomputed_op("reference_attention", dense_attention), _why_not)
