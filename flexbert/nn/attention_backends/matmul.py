"""Attention by plain matrix products, a tile of scores at a time: for CPUs.

torch's fused attention for CPUs runs far below the speed of its matrix products, more so with a
mask and in the backward. Here the scores of a tile stay in cache from one product to the next, and
the backward is written out: it needs the inputs alone and runs no forward first. In float32 that
gains nothing over torch's, so it is left to bfloat16.

Tokens are gathered into rows, whose queries see keys of their own row alone. Local layers: blocks
of ``BLOCK`` queries with the keys they can reach, documents regardless. Global layers: documents of
similar length, padded to the longest of them.

Products and softmax sum in float32; between them, scores are rounded to the queries' dtype, as
those of eager attention are.

Shape legend: N tokens, R rows, Q queries and K keys of a row, H heads, Hkv heads of keys and
values, D head dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend, Call, Limit
from flexbert.nn.attention_backends.documents import padded_groups, sees_all
from flexbert.nn.attention_backends.recomputed_op import recomputed_op
from flexbert.nn.ragged import sequence_ids

# Scores of a tile, and queries of a local layer's row: the fastest, or within 5 percent of it, in
# bfloat16 and float32 among 2^17 to 2^21 scores and 32, 64, 128 queries (a window of 128, 4 heads
# of 64, one core).
TILE = 1 << 19
BLOCK = 64
# A tile of long documents has more scores than ``TILE`` rather than fewer queries, over which the
# sums of the keys' gradients are spread: 16, 64 and 256 queries took 23.9, 8.1 and 5.2 s for one
# document of 8192 tokens (forward and backward, 12 heads of 64, 2 cores).
MIN_QUERIES = 256


@dataclass(frozen=True)
class Rows:
    """Which tokens meet. Number N is no token: its entries are zeros, and nothing is read of it.

    Attributes:
        queries: ``[R, Q]``; every token is a query once.
        keys: ``[R, K]``.
        hidden: bool ``[R, Q or 1, K]``, keys that a query does not see; None shows all.
    """

    queries: Tensor
    keys: Tensor
    hidden: Tensor | None

    def tiles(self, num_heads: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Queries ``[R, q]`` and what is hidden from them ``[R, q or 1, K]``, some at a time."""
        step = max(MIN_QUERIES, TILE // (num_heads * self.keys.numel()))
        parts = self.queries.split(step, dim=1)
        if self.hidden is None or self.hidden.shape[1] == 1:
            return ((part, self.hidden) for part in parts)
        return zip(parts, self.hidden.split(step, dim=1), strict=True)


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, call: Call, seed: Tensor | None) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.recomputed_op.SeededAttention`."""
    num_tokens, num_heads, _ = q.shape
    num_kv_heads = k.shape[1]
    q, k, v = (_with_zeros(x) for x in (q, k, v))
    out = torch.empty_like(q)
    for rows in _rows(call, num_tokens, num_heads):
        keys, values = (_gathered(x, rows.keys, num_kv_heads) for x in (k, v))
        for tokens, hidden in rows.tiles(num_heads):
            queries = _gathered(q, tokens, num_kv_heads)
            weights = _weights(queries, keys, hidden, call.scale)
            _put(out, tokens, torch.bmm(weights, values))
    return out[:num_tokens]


def matmul_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, call: Call
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    num_tokens, num_heads, _ = q.shape
    num_kv_heads = k.shape[1]
    grad, q, k, v = (_with_zeros(x) for x in (grad, q, k, v))
    grad_q = torch.empty_like(q)
    # A key is in several rows of a local layer, in several tiles of a long document.
    dtype = torch.promote_types(k.dtype, torch.float32)
    grad_k, grad_v = (torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (k, v))
    for rows in _rows(call, num_tokens, num_heads):
        keys, values = (_gathered(x, rows.keys, num_kv_heads) for x in (k, v))
        sums: tuple[Tensor, ...] = ()
        for tokens, hidden in rows.tiles(num_heads):
            queries, grads = (_gathered(x, tokens, num_kv_heads) for x in (q, grad))
            weights = _weights(queries, keys, hidden, call.scale)
            grad_weights = torch.bmm(grads, values.mT)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            _put(grad_q, tokens, _scaled_bmm(grad_scores, keys, call.scale))
            parts = (
                _scaled_bmm(grad_scores.mT, queries, call.scale).to(dtype),
                torch.bmm(weights.mT, grads).to(dtype),
            )
            sums = tuple(map(torch.add, sums, parts)) if sums else parts
        for total, part in zip((grad_k, grad_v), sums, strict=True):
            _add(total, rows.keys, part)
    return (
        grad_q[:num_tokens],
        grad_k[:num_tokens].to(k.dtype),
        grad_v[:num_tokens].to(v.dtype),
    )


def _weights(queries: Tensor, keys: Tensor, hidden: Tensor | None, scale: float) -> Tensor:
    """Attention probabilities ``[R * Hkv, H / Hkv * Q, K]``."""
    scores = _scaled_bmm(queries, keys.mT, scale)
    if hidden is not None:
        # Rows first, then heads, whichever keys they share, then queries.
        scores.view(len(hidden), -1, *hidden.shape[1:]).masked_fill_(hidden[:, None], -torch.inf)
    return scores.softmax(-1)


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    # The factor is applied to float32 sums, before they are rounded; with beta 0 nothing is read.
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def _with_zeros(x: Tensor) -> Tensor:
    """``[N, ...]`` and zeros as number N."""
    return F.pad(x, (*(0, 0) * (x.ndim - 1), 0, 1))


def _gathered(x: Tensor, tokens: Tensor, num_kv_heads: int) -> Tensor:
    """``[N + 1, H, D]`` to ``[R * Hkv, H / Hkv * T, D]`` for tokens ``[R, T]``.

    Queries of heads that share a key stand behind each other, as more queries of that key's head.
    """
    rows = x.index_select(0, tokens.flatten())
    by_head = rows.view(*tokens.shape, num_kv_heads, -1, x.shape[-1]).permute(0, 2, 3, 1, 4)
    return by_head.reshape(len(tokens) * num_kv_heads, -1, x.shape[-1])


def _tokens_first(x: Tensor, tokens: Tensor, num_heads: int) -> Tensor:
    """The way back from :func:`_gathered`: ``[R * T, H, D]``."""
    by_head = x.view(len(tokens), num_heads, tokens.shape[1], x.shape[-1])
    return by_head.transpose(1, 2).flatten(0, 1)


def _put(full: Tensor, tokens: Tensor, x: Tensor) -> None:
    full.index_copy_(0, tokens.flatten(), _tokens_first(x, tokens, full.shape[1]))


def _add(full: Tensor, tokens: Tensor, x: Tensor) -> None:
    full.index_add_(0, tokens.flatten(), _tokens_first(x, tokens, full.shape[1]))


def _rows(call: Call, num_tokens: int, num_heads: int) -> Iterator[Rows]:
    if not num_tokens:
        return iter(())
    if sees_all(call):
        return _document_rows(call.cu_seqlens, num_tokens, num_heads)
    assert call.window is not None
    return _block_rows(call.cu_seqlens, num_tokens, num_heads, call.window)


def _document_rows(cu_seqlens: Tensor, num_tokens: int, num_heads: int) -> Iterator[Rows]:
    for tokens, is_real in padded_groups(cu_seqlens):
        num_documents, length = tokens.shape
        step = max(1, TILE // (num_heads * length * length))
        for begin in range(0, num_documents, step):
            real = is_real[begin : begin + step]
            numbers = tokens[begin : begin + step].where(real, num_tokens)
            yield Rows(numbers, numbers, None if num_documents == 1 else ~real[:, None])


def _block_rows(cu_seqlens: Tensor, num_tokens: int, num_heads: int, window: int) -> Iterator[Rows]:
    reach, device = window // 2, cu_seqlens.device
    sequence = F.pad(sequence_ids(cu_seqlens, num_tokens), (0, 1), value=-1)
    own = torch.arange(BLOCK, device=device)
    around = torch.arange(-reach, BLOCK + reach, device=device)
    is_far = (own[:, None] - around).abs() > reach
    begins = torch.arange(0, num_tokens, BLOCK, device=device)
    for some in begins.split(max(1, TILE // (num_heads * is_far.numel()))):
        queries = (some[:, None] + own).clamp(max=num_tokens)
        keys = some[:, None] + around
        keys = keys.where((keys >= 0) & (keys < num_tokens), num_tokens)
        # Number N is a sequence of its own: as a query it sees itself, and stays finite.
        other = sequence[queries][:, :, None] != sequence[keys][:, None, :]
        yield Rows(queries, keys, is_far | other)


BACKEND = Backend(
    name="matmul",
    attend=recomputed_op("matmul_attention", matmul_attention, matmul_attention_backward),
    devices="a CPU",
    unavailable=lambda device: None if device.type == "cpu" else "is for CPUs",
    dtypes=(torch.bfloat16,),
    limits=(
        Limit("has no ALiBi", ("alibi",)),
        Limit("has no dropout", ("dropout",)),
    ),
)
