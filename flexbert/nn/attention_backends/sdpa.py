"""Attention through ``scaled_dot_product_attention``: any device, never an N x N tensor.

Local layers cut the concatenated tokens into blocks of queries, documents regardless, and give each
block the keys it can reach: no token is padding, and the mask holds ``N * (block + window)`` bits.
Global layers run documents of similar length together, padded to the longest of them. ALiBi and
dropout cost dense numbers, in tiles: see :mod:`flexbert.nn.attention_backends.tiles`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend, Call
from flexbert.nn.attention_backends.documents import padded_groups, read_once, sees_all
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
    plan = _document_rows(read_once(cu_seqlens), q.device)
    # One gather for all groups, and so one gradient: each is as long as the whole batch.
    sizes = [real.numel() for real in plan.is_real]
    q_groups, k_groups, v_groups = (x.index_select(0, plan.tokens).split(sizes) for x in (q, k, v))

    outs = []
    for q_flat, k_flat, v_flat, real in zip(
        q_groups, k_groups, v_groups, plan.is_real, strict=True
    ):
        q_rows, k_rows, v_rows = (
            x.unflatten(0, real.shape).transpose(1, 2) for x in (q_flat, k_flat, v_flat)
        )
        visible = None if len(real) == 1 else real[:, None, None]
        out = attend(q_rows, k_rows, v_rows, visible)
        outs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outs).index_select(0, plan.places)


class _DocumentRows(NamedTuple):
    """Documents in groups, each a row of its group's length.

    Attributes:
        tokens: which token stands in each slot of all groups, ``[P]``.
        is_real: of each group, ``[G, L]``: whether it does not only stand in.
        places: in which slot each of the N tokens is.
    """

    tokens: Tensor
    is_real: tuple[Tensor, ...]
    places: Tensor


# Of the present batch, and of the one before it where two take turns.
@lru_cache(maxsize=2)
def _document_rows(cu_seqlens: tuple[int, ...], device: torch.device) -> _DocumentRows:
    # A backward pass asks from inside torch.func, which would wrap what is to outlive it.
    with torch._C._DisableFuncTorch():
        groups = padded_groups(cu_seqlens)
        tokens = torch.cat([tokens.flatten() for tokens, _ in groups])
        slots = torch.cat([real.flatten() for _, real in groups]).nonzero().flatten()
        places = torch.empty_like(slots).index_copy(0, tokens[slots], slots)
        is_real = tuple(real.to(device) for _, real in groups)
        return _DocumentRows(tokens.to(device), is_real, places.to(device))


BACKEND = Backend(
    name="sdpa",
    attend=recomputed_op("sdpa_attention", sdpa_attention),
    devices="any",
    unavailable=lambda device: None,
)
