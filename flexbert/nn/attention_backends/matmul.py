"""Attention by plain matrix products, a tile of scores at a time: for CPUs.

torch's fused attention for CPUs runs far below the speed of its matrix products, more so with a
mask and in the backward. Here the scores of a tile stay in cache from one product to the next, and
the backward is written out: it needs the inputs alone and runs no forward first. In float32 that
gains nothing over torch's, so it is left to bfloat16.

Local layers run in :mod:`~flexbert.nn.attention_backends.bands`. Global ones run here, documents of
similar length together, padded to the longest of them; their tokens are gathered into rows.

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
from flexbert.nn.attention_backends.bands import banded_attention, banded_attention_backward
from flexbert.nn.attention_backends.documents import padded_groups, sees_all
from flexbert.nn.attention_backends.products import hiding_bias, scaled_product, softmax_gradient
from flexbert.nn.attention_backends.recomputed_op import recomputed_op

# Scores of a tile: the fastest, or within 5 percent of it, in bfloat16 among 2^17 to 2^21.
TILE = 1 << 19
# A tile of long documents has more scores than ``TILE`` rather than fewer queries, over which the
# sums of the keys' gradients are spread: 16, 64 and 256 queries took 23.9, 8.1 and 5.2 s for one
# document of 8192 tokens (forward and backward, 12 heads of 64, 2 cores).
MIN_QUERIES = 256


@dataclass(frozen=True)
class Rows:
    """Documents that are computed together. Number N is no token: its entries are zeros.

    Attributes:
        tokens: ``[R, K]``; every token is in one row.
        hidden: bool ``[R, 1, K]``, keys that are no token; None if all are.
    """

    tokens: Tensor
    hidden: Tensor | None

    def queries(self, num_heads: int) -> Iterator[Tensor]:
        """Some ``[R, Q]`` at a time."""
        step = max(MIN_QUERIES, TILE // (num_heads * self.tokens.numel()))
        return iter(self.tokens.split(step, dim=1))


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, call: Call, seed: Tensor | None) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.recomputed_op.SeededAttention`."""
    num_tokens, num_heads, _ = q.shape
    num_kv_heads = k.shape[1]
    if not num_tokens:
        return torch.empty_like(q)
    if not sees_all(call):
        return banded_attention(q, k, v, call, TILE)
    q, k, v = (_with_zeros(x) for x in (q, k, v))
    out = torch.empty_like(q)
    for rows in _document_rows(call.cu_seqlens, num_tokens, num_heads):
        keys, values = (_gathered(x, rows.tokens, num_kv_heads) for x in (k, v))
        for tokens in rows.queries(num_heads):
            weights = _weights(_gathered(q, tokens, num_kv_heads), keys, rows, call.scale)
            _put(out, tokens, torch.bmm(weights, values))
    return out[:num_tokens]


def matmul_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, call: Call
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    num_tokens, num_heads, _ = q.shape
    num_kv_heads = k.shape[1]
    if not num_tokens:
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if not sees_all(call):
        return banded_attention_backward(grad, q, k, v, call, TILE)
    grad, q, k, v = (_with_zeros(x) for x in (grad, q, k, v))
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
    # Over the tiles of a long document.
    sum_dtype = torch.promote_types(k.dtype, torch.float32)
    for rows in _document_rows(call.cu_seqlens, num_tokens, num_heads):
        keys, values = (_gathered(x, rows.tokens, num_kv_heads) for x in (k, v))
        sums: tuple[Tensor, ...] = ()
        for tokens in rows.queries(num_heads):
            queries, grads = (_gathered(x, tokens, num_kv_heads) for x in (q, grad))
            weights = _weights(queries, keys, rows, call.scale)
            grad_scores = softmax_gradient(torch.bmm(grads, values.mT), weights)
            _put(grad_q, tokens, scaled_product(grad_scores, keys, call.scale))
            parts = (
                scaled_product(grad_scores.mT, queries, call.scale).to(sum_dtype),
                torch.bmm(weights.mT, grads).to(sum_dtype),
            )
            sums = tuple(map(torch.add, sums, parts)) if sums else parts
        for total, part in zip((grad_k, grad_v), sums, strict=True):
            _put(total, rows.tokens, part.to(total.dtype))
    return grad_q[:num_tokens], grad_k[:num_tokens], grad_v[:num_tokens]


def _weights(queries: Tensor, keys: Tensor, rows: Rows, scale: float) -> Tensor:
    """Attention probabilities ``[R * Hkv, H / Hkv * Q, K]``."""
    scores = scaled_product(queries, keys.mT, scale)
    if rows.hidden is not None:
        # Rows first, then heads, whichever keys they share.
        scores.unflatten(0, (len(rows.tokens), -1)).add_(
            hiding_bias(rows.hidden, scores.dtype)[:, None]
        )
    return scores.softmax(-1)


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


def _document_rows(cu_seqlens: Tensor, num_tokens: int, num_heads: int) -> Iterator[Rows]:
    for tokens, is_real in padded_groups(cu_seqlens):
        num_documents, length = tokens.shape
        step = max(1, TILE // (num_heads * length * length))
        for begin in range(0, num_documents, step):
            real = is_real[begin : begin + step]
            numbers = tokens[begin : begin + step].where(real, num_tokens)
            yield Rows(numbers, None if num_documents == 1 else ~real[:, None])


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
