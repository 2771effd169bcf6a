"""Local attention by matrix products, in bands.

Tokens stand in blocks of ``BLOCK``, documents regardless. The keys that a block's queries can reach
are the block and ``window / 2`` tokens on either side of it. With the tokens of a head behind each
other those of all blocks are one view, overlapping, and nothing is gathered. What a query must not
see, other documents and what is too far, is hidden by a bias from which the product of queries and
keys starts.

Shape legend: N tokens, B blocks, K keys of a block, H heads, Hkv heads of keys and values, D head
dim, L tokens of a padded head.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import Call
from flexbert.nn.attention_backends.cpu.products import (
    attention_weights,
    hiding_bias,
    scaled_product,
    softmax_gradient,
)

# Queries of a block. More of them see more keys in vain, fewer copy more keys and multiply smaller
# matrices. Of 32 to 256 the fastest for windows of 128 and 256 (66 ms against 68, 76 and 104; 8,192
# tokens, 4 heads, one core), and 5 percent behind 32 for windows of 64.
BLOCK = 64


def banded_attention(q: Tensor, k: Tensor, v: Tensor, call: Call, tile: int) -> Tensor:
    """Of queries ``[N, H, D]`` on keys and values ``[N, Hkv, D]``, ``[N, H, D]``.

    Args:
        tile: scores computed at a time.
    """
    # Windows are copied as they come: of a view that overlaps, a product would take a transposed
    # copy, which is far slower.
    bands = _Bands(call, len(q), tile)
    queries, keys, values = bands.of_queries(q), bands.of_keys(k), bands.of_keys(v)
    out = torch.empty_like(queries)
    for some, bias in bands.tiles(q.dtype):
        for head, key_head in _head_pairs(q, k):
            its_keys = keys[key_head, some].contiguous()
            weights = attention_weights(queries[head, some], its_keys, bias, call.scale)
            torch.bmm(weights, values[key_head, some], out=out[head, some])
    return bands.tokens_first(out.flatten(1, 2), 0)


def banded_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, call: Call, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v from that of the result."""
    bands = _Bands(call, len(q), tile)
    queries, grads = bands.of_queries(q), bands.of_queries(grad)
    keys, values = bands.of_keys(k), bands.of_keys(v)
    grad_q = torch.empty_like(queries)
    # A key is in the windows of several blocks.
    sum_dtype = torch.promote_types(k.dtype, torch.float32)
    grad_k, grad_v = (bands.new_sums(k, sum_dtype) for _ in range(2))
    for some, bias in bands.tiles(q.dtype):
        for head, key_head in _head_pairs(q, k):
            its_queries, its_grads = queries[head, some], grads[head, some]
            its_keys = keys[key_head, some].contiguous()
            its_values = values[key_head, some].contiguous()
            weights = attention_weights(its_queries, its_keys, bias, call.scale)
            grad_scores = softmax_gradient(torch.bmm(its_grads, its_values.mT), weights)
            scaled_product(grad_scores, its_keys, call.scale, out=grad_q[head, some])
            part = scaled_product(grad_scores.mT, its_queries, call.scale)
            bands.add_windows(grad_k[key_head], some, part)
            bands.add_windows(grad_v[key_head], some, torch.bmm(weights.mT, its_grads))
    return (
        bands.tokens_first(grad_q.flatten(1, 2), 0),
        bands.tokens_first(grad_k.to(k.dtype), bands.reach),
        bands.tokens_first(grad_v.to(v.dtype), bands.reach),
    )


def _head_pairs(q: Tensor, k: Tensor) -> list[tuple[int, int]]:
    """Each head of queries with the head of keys that it shares."""
    shared_by = q.shape[1] // k.shape[1]
    return [(head, head // shared_by) for head in range(q.shape[1])]


class _Bands:
    """How the tokens of a batch stand in blocks."""

    def __init__(self, call: Call, num_tokens: int, tile: int) -> None:
        assert call.window is not None
        self.num_tokens = num_tokens
        self.reach = call.window // 2
        self.num_keys = BLOCK + 2 * self.reach
        self.num_blocks = -(-num_tokens // BLOCK)
        self.step = max(1, tile // (BLOCK * self.num_keys))
        self.cu_seqlens = call.cu_seqlens

    def of_queries(self, x: Tensor) -> Tensor:
        """``[N, H, D]`` to ``[H, B, BLOCK, D]``."""
        return self._heads_first(x, 0).unflatten(1, (self.num_blocks, BLOCK))

    def of_keys(self, x: Tensor) -> Tensor:
        """``[N, H, D]`` to ``[H, B, K, D]``, overlapping."""
        return self._heads_first(x, self.reach).unfold(1, self.num_keys, BLOCK).mT

    def new_sums(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Zeros ``[H, L, D]`` for :meth:`add_windows`."""
        return x.new_zeros((x.shape[1], self._padded_length(self.reach), x.shape[2]), dtype=dtype)

    def add_windows(self, sums: Tensor, some: slice, parts: Tensor) -> None:
        """Add what some blocks have for their keys ``[B, K, D]`` to one head's ``[L, D]``.

        A block's worth of keys at a time, because windows overlap and those do not.
        """
        for first in range(0, self.num_keys, BLOCK):
            part = parts[:, first : first + BLOCK]
            places = sums[first:].unfold(0, part.shape[1], BLOCK).mT
            places[: self.num_blocks][some].add_(part)

    def tokens_first(self, x: Tensor, before: int) -> Tensor:
        """``[H, L, D]`` to ``[N, H, D]``, without the padding."""
        return x[:, before : before + self.num_tokens].transpose(0, 1)

    def tiles(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Some blocks at a time, and the bias ``[B, BLOCK, K]`` that all heads' scores have."""
        cu_seqlens = tuple(self.cu_seqlens.tolist())
        for begin in range(0, self.num_blocks, self.step):
            end = min(begin + self.step, self.num_blocks)
            bias = _bias(cu_seqlens, self.num_tokens, self.reach, begin, end, dtype)
            yield slice(begin, end), bias

    def _heads_first(self, x: Tensor, before: int) -> Tensor:
        """``[N, H, D]`` to ``[H, L, D]``: zeros before, and after the last token."""
        full = x.new_empty((x.shape[1], self._padded_length(before), x.shape[2]))
        after = before + self.num_tokens
        full[:, :before] = 0
        full[:, before:after] = x.transpose(0, 1)
        full[:, after:] = 0
        return full

    def _padded_length(self, before: int) -> int:
        return self.num_blocks * BLOCK + 2 * before


# Every local layer of a batch has the same ones, and so have both directions. Kept are those of a
# batch of moderate size; one more than that, and each is made again when it is needed.
@lru_cache(maxsize=32)
def _bias(
    cu_seqlens: tuple[int, ...],
    num_tokens: int,
    reach: int,
    begin: int,
    end: int,
    dtype: torch.dtype,
) -> Tensor:
    """``[B, BLOCK, K]`` of the blocks from ``begin`` to ``end``; see :func:`hiding_bias`."""
    positions = torch.arange(begin * BLOCK - reach, end * BLOCK + reach)
    sequences = torch.bucketize(positions, torch.tensor(cu_seqlens[1:]), right=True)
    # Padding is a sequence of its own: as queries it sees itself, and stays finite.
    sequences[(positions < 0) | (positions >= num_tokens)] = -1
    queries = sequences[reach : len(sequences) - reach].view(-1, BLOCK, 1)
    keys = sequences.unfold(0, BLOCK + 2 * reach, BLOCK)[:, None]
    own = torch.arange(BLOCK)
    around = torch.arange(-reach, BLOCK + reach)
    is_far = (own[:, None] - around).abs() > reach
    return hiding_bias((queries != keys) | is_far, dtype)
