"""Attention through ``scaled_dot_product_attention``: any device, never an N x N tensor.

Local layers cut the concatenated tokens into blocks of queries, documents regardless, and give each
block the keys it can reach: no token is padding, and the mask holds ``N * (block + window)`` bits.
Global layers run documents of similar length together, padded to the longest of them. ALiBi and
dropout cost dense numbers, in tiles: see :mod:`flexbert.nn.attention_backends.tiles`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend, Call
from flexbert.nn.attention_backends.documents import padded_groups, sees_all
from flexbert.nn.attention_backends.recomputed_op import recomputed_op
from flexbert.nn.attention_backends.tiles import BLOCK, BlockAttention
from flexbert.nn.packed_batch import sequence_ids


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, call: Call, seed: Tensor | None) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.recomputed_op.SeededAttention`."""
    attend = BlockAttention(call, seed)
    if sees_all(call):
        return _documents_attention(q, k, v, call.cu_seqlens, attend)
    assert call.window is not None
    return _banded_attention(q, k, v, call.cu_seqlens, call.window, attend)


def _banded_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, window: int, attend: BlockAttention
) -> Tensor:
    num_tokens = q.shape[0]
    tail = -num_tokens % BLOCK
    reach = window // 2

    def query_blocks(x: Tensor, fill: int = 0) -> Tensor:
        """``[N, ...]`` to ``[G, BLOCK, ...]``."""
        return _pad_tokens(x, 0, tail, fill).unflatten(0, (-1, BLOCK))

    def key_blocks(x: Tensor, fill: int = 0) -> Tensor:
        """``[N, ...]`` to ``[G, ..., BLOCK + window]``: a view in which blocks overlap."""
        return _pad_tokens(x, reach, reach + tail, fill).unfold(0, BLOCK + window, BLOCK)

    sequence = sequence_ids(cu_seqlens, num_tokens)
    # Padding is a sequence of its own, so that a padding query sees itself and stays finite.
    same_sequence = (
        query_blocks(sequence, fill=-1)[:, :, None] == key_blocks(sequence, fill=-1)[:, None, :]
    )
    # Key j of a block stands at j - reach, counted from the block's first query.
    offset = torch.arange(BLOCK + window, device=q.device) - reach
    distance = offset - torch.arange(BLOCK, device=q.device)[:, None]
    visible = same_sequence & (distance.abs() <= reach)

    out = attend(
        query_blocks(q).transpose(1, 2),
        key_blocks(k).mT,
        key_blocks(v).mT,
        visible[:, None],
        key_offset=-reach,
    )
    return out.transpose(1, 2).flatten(0, 1)[:num_tokens]


def _pad_tokens(x: Tensor, before: int, after: int, fill: int) -> Tensor:
    """Add ``fill`` at the ends of the first dimension."""
    return F.pad(x, (*(0, 0) * (x.ndim - 1), before, after), value=fill)


def _documents_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, attend: BlockAttention
) -> Tensor:
    groups = padded_groups(cu_seqlens)
    token = torch.cat([tokens.flatten() for tokens, _ in groups])
    is_real = torch.cat([real.flatten() for _, real in groups])
    # One gather for all groups, and so one gradient: each is as long as the whole batch.
    sizes = [tokens.numel() for tokens, _ in groups]
    q_groups, k_groups, v_groups = (x.index_select(0, token).split(sizes) for x in (q, k, v))

    outs = []
    for q_flat, k_flat, v_flat, (_, real) in zip(q_groups, k_groups, v_groups, groups, strict=True):
        q_rows, k_rows, v_rows = (
            x.unflatten(0, real.shape).transpose(1, 2) for x in (q_flat, k_flat, v_flat)
        )
        visible = None if len(real) == 1 else real[:, None, None]
        out = attend(q_rows, k_rows, v_rows, visible)
        outs.append(out.transpose(1, 2).flatten(0, 1))
    slots = is_real.nonzero().flatten()
    out = torch.cat(outs).index_select(0, slots)
    return out.new_empty(out.shape).index_copy(0, token[slots], out)


BACKEND = Backend(
    name="sdpa",
    attend=recomputed_op("sdpa_attention", sdpa_attention),
    devices="any",
    unavailable=lambda device: None,
)
