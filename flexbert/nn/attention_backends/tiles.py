"""Attention of blocks of queries on blocks of keys, with ALiBi and dropout.

Shape legend: G blocks, H heads, Hkv heads of keys and values, Q queries and K keys of a block,
D head dim.

``scaled_dot_product_attention`` takes ALiBi as a dense bias, and on a CPU it computes dropout on
dense probabilities: either would be ``H * L * L`` numbers for a document of L tokens. So a call
with one of them is cut into tiles. A tile has ``H * BLOCK`` times as many scores as there are
queries (or keys of one block, if those are more), and its backward runs its forward again, so that
one tile is alive at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flexbert.nn.attention_backends.backend import Call
from flexbert.nn.attention_backends.seeded import SEED_LIMIT, seeded

# Queries per block of a local layer. With ModernBERT's window of 128, forward and backward took
# 273, 198, 196, 245 ms (float32) and 325, 294, 299, 335 ms (bfloat16) for 32, 64, 128, 256 queries:
# 8192 tokens, 12 heads of 64, 2 CPU cores.
BLOCK = 128


class BlockAttention:
    """Every query attends to the visible keys of its own block.

    Args:
        call: whose scale, slopes and dropout these are.
        seed: of dropout; None without. One seed drops the same in the same sequence of calls.
    """

    def __init__(self, call: Call, seed: Tensor | None) -> None:
        self.scale = call.scale
        self.alibi_slopes = call.alibi_slopes
        self.dropout = call.dropout
        self.tile_seeds = None if seed is None else torch.Generator().manual_seed(int(seed))

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, key_offset: int = 0
    ) -> Tensor:
        """``[G, H, Q, D]`` queries on ``[G, Hkv, K, D]`` keys and values.

        Args:
            visible: bool, broadcasts to ``[G, 1, Q, K]``; None shows all.
            key_offset: where a block's first key stands, counted from its first query.
        """
        if self.alibi_slopes is None and self.tile_seeds is None:
            return self._attend(q, k, v, visible)
        num_blocks, _, num_queries, _ = q.shape
        num_keys = k.shape[2]
        if visible is not None:
            visible = visible.expand(-1, -1, num_queries, -1)
        outs = []
        for blocks, queries in _tiles(num_blocks, num_queries, num_keys):
            shown = None if visible is None else visible[blocks, :, queries]
            tile = self._tile(shown, queries, range(key_offset, key_offset + num_keys))
            outs.append(_Recomputed.apply(q[blocks, :, queries], k[blocks], v[blocks], tile))
        tiles_per_block = -(-num_queries // BLOCK)
        rows = [
            torch.cat(outs[i : i + tiles_per_block], dim=2)
            for i in range(0, len(outs), tiles_per_block)
        ]
        return torch.cat(rows)

    def _tile(
        self, visible: Tensor | None, queries: slice, keys: range
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The attention of one tile; what is large is built when it is called."""
        seed = None
        if self.tile_seeds is not None:
            seed = int(torch.randint(SEED_LIMIT, (), generator=self.tile_seeds))

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            mask = visible
            if self.alibi_slopes is not None:
                query_position = torch.arange(queries.start, queries.stop, device=q.device)
                key_position = torch.arange(keys.start, keys.stop, device=q.device)
                distance = (query_position[:, None] - key_position).abs()
                mask = _alibi_bias(self.alibi_slopes, distance, visible, q)
            with nullcontext() if seed is None else seeded(seed, q.device):
                return self._attend(q, k, v, mask)

        return attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout,
            scale=self.scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )


def _tiles(num_blocks: int, num_queries: int, num_keys: int) -> Iterator[tuple[slice, slice]]:
    """Slices of blocks and of queries, the latter counting faster."""
    rows = min(num_queries, BLOCK)
    height = max(1, BLOCK * num_blocks * num_queries // (rows * num_keys))
    for block in range(0, num_blocks, height):
        for query in range(0, num_queries, rows):
            yield (
                slice(block, min(block + height, num_blocks)),
                slice(query, min(query + rows, num_queries)),
            )


def _alibi_bias(slopes: Tensor, distance: Tensor, visible: Tensor | None, q: Tensor) -> Tensor:
    """``[G or 1, H, Q, K]``, minus infinity where nothing is visible."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    bias = -slopes.to(dtype)[:, None, None] * distance
    bias = bias[None] if visible is None else torch.where(visible, bias, -torch.inf)
    # CPU kernels take a float32 bias for bfloat16 queries, CUDA's only one of the queries' dtype.
    return bias.to(q.dtype) if q.is_cuda else bias


class _Recomputed(torch.autograd.Function):
    """``attend(q, k, v)``, of which nothing but the inputs is kept for the backward."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        return attend(q, k, v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *qkv, ctx.attend = inputs
        ctx.save_for_backward(*qkv)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pull_back = torch.func.vjp(ctx.attend, *ctx.saved_tensors)[1]
        return *pull_back(grad), None
