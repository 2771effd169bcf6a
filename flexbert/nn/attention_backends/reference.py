"""Dense attention with an N x N mask: slow, obvious, any device and dtype. For tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend, Call
from flexbert.nn.attention_backends.recomputed_op import recomputed_op
from flexbert.nn.attention_backends.seeded import seeded
from flexbert.nn.packed_batch import sequence_ids


def dense_attention(q: Tensor, k: Tensor, v: Tensor, call: Call, seed: Tensor | None) -> Tensor:
    """The definition of attention, written down; scores and softmax in at least float32."""
    num_tokens, num_heads, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    queries_per_key = num_heads // k.shape[1]
    k = k.repeat_interleave(queries_per_key, dim=1)
    v = v.repeat_interleave(queries_per_key, dim=1)

    sequence = sequence_ids(call.cu_seqlens, num_tokens)
    visible = sequence[:, None] == sequence[None, :]
    position = torch.arange(num_tokens, device=q.device)
    distance = (position[:, None] - position[None, :]).abs()
    if call.window is not None:
        visible &= distance <= call.window // 2

    scores = torch.einsum("qhd,khd->hqk", q.to(dtype), k.to(dtype)) * call.scale
    if call.alibi_slopes is not None:
        scores = scores - call.alibi_slopes.to(dtype)[:, None, None] * distance
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    if seed is not None:
        with seeded(int(seed), q.device):
            weights = F.dropout(weights, call.dropout)
    return torch.einsum("hqk,khd->qhd", weights, v.to(dtype)).to(q.dtype)


BACKEND = Backend(
    name="reference",
    attend=recomputed_op("reference_attention", dense_attention),
    devices="any",
    unavailable=lambda device: None,
)
