"""Attention by plain matrix products, a tile of scores at a time: for CPUs.

torch's fused attention for CPUs runs far below the speed of its matrix products, more so with a
mask and in the backward. Here the scores of a tile stay near from one product to the next, and
the backward is written out: it needs the inputs alone and runs no forward first. In float32 that
gains nothing over torch's, so it is left to bfloat16.

Local layers run in :mod:`~flexbert.nn.attention_backends.cpu.bands`. Global ones run here:
documents of similar length together, padded to the longest of them.

Products and softmax sum in float32; between them, scores are rounded to the queries' dtype, as
those of eager attention are.

Shape legend: N tokens, H heads, Hkv heads of keys and values, D head dim; B batched products of Q
queries and K keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import Backend, Call, Limit
from flexbert.nn.attention_backends.cpu.bands import banded_attention, banded_attention_backward
from flexbert.nn.attention_backends.cpu.global_plan import global_plan
from flexbert.nn.attention_backends.cpu.products import (
    attention_weights,
    scaled_product,
    softmax_gradient,
)
from flexbert.nn.attention_backends.documents import sees_all
from flexbert.nn.attention_backends.recomputed_op import recomputed_op

# Scores of a tile. Of more, fewer operations are started, and less stays near the core. Updates of
# 12M parameters on two cores took 1.9, 2.9 and 3.1 percent less with 2^20, 2^21 and 2^22 than with
# 2^19 (give or take 1.6). On one core with 2^21 instead of 2^19, global attention on web-like
# documents gained 10 percent and local lost 7 (4 heads), or little either way (12).
TILE = 1 << 21


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, call: Call, seed: Tensor | None) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.recomputed_op.SeededAttention`."""
    if not len(q):
        return torch.empty_like(q)
    if not sees_all(call):
        return banded_attention(q, k, v, call, TILE)
    plan = global_plan(q, k, call.cu_seqlens, TILE)
    queries, keys, values = plan.queries.gathered(q), plan.keys.gathered(k), plan.keys.gathered(v)
    out = torch.empty_like(queries)
    for group in plan.groups:
        its_keys, its_values = group.part(keys, group.keys), group.part(values, group.keys)
        for some in group.queries:
            weights = attention_weights(group.part(queries, some), its_keys, group.bias, call.scale)
            torch.bmm(weights, its_values, out=group.part(out, some))
    return plan.queries.put_back(out, q)


def matmul_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, call: Call
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    if not len(q):
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if not sees_all(call):
        return banded_attention_backward(grad, q, k, v, call, TILE)
    plan = global_plan(q, k, call.cu_seqlens, TILE)
    queries, grads = plan.queries.gathered(q), plan.queries.gathered(grad)
    keys, values = plan.keys.gathered(k), plan.keys.gathered(v)
    # Queries that stand in must add nothing to the gradients of keys and values.
    grads.index_fill_(0, plan.queries.padding, 0)
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (queries, keys, values))
    for group in plan.groups:
        its_keys, its_values = group.part(keys, group.keys), group.part(values, group.keys)
        sums: tuple[Tensor, ...] = ()
        for some in group.queries:
            its_queries, its_grads = group.part(queries, some), group.part(grads, some)
            weights = attention_weights(its_queries, its_keys, group.bias, call.scale)
            grad_scores = softmax_gradient(torch.bmm(its_grads, its_values.mT), weights)
            scaled_product(grad_scores, its_keys, call.scale, out=group.part(grad_q, some))
            parts = (
                scaled_product(grad_scores.mT, its_queries, call.scale),
                torch.bmm(weights.mT, its_grads),
            )
            sums = tuple(map(_wide_sum, sums, parts)) if sums else parts
        for total, its_sum in zip((grad_k, grad_v), sums, strict=True):
            group.part(total, group.keys).copy_(its_sum)
    return (
        plan.queries.put_back(grad_q, q),
        plan.keys.put_back(grad_k, k),
        plan.keys.put_back(grad_v, v),
    )


def _wide_sum(total: Tensor, part: Tensor) -> Tensor:
    """In at least float32: a long document has many parts."""
    return total.to(torch.promote_types(total.dtype, torch.float32)).add_(part)


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
