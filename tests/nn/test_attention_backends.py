"""Every backend that runs here computes the same attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flexbert.nn.attention_backends import attend
from flexbert.nn.attention_backends.sdpa import sdpa_attention
from flexbert.nn.ragged import RaggedBatch
from tests.nn.cases import ragged_batch
from tests.nn.tolerances import assert_same

# Empty, single, around a block of the sdpa backend, and several of one group of lengths.
LENGTHS = (5, 0, 150, 17, 127, 1, 145, 128, 0, 0)
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
WINDOWS = (None, 2, 128, 200, 1000)
SCALE = 0.3


def random_qkv(
    num_tokens: int, dtype: torch.dtype, *, num_heads: int = 4, num_kv_heads: int = 4
) -> list[Tensor]:
    heads = (num_heads, num_kv_heads, num_kv_heads)
    return [torch.randn(num_tokens, h, 8, dtype=dtype, requires_grad=True) for h in heads]


def values_and_gradients(
    run: Callable[..., Tensor], qkv: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor, ...]:
    out = run(*qkv)
    return (out, *torch.autograd.grad(out, qkv, grad))


def document_by_document(
    q: Tensor, k: Tensor, v: Tensor, ragged: RaggedBatch, window: int | None
) -> Tensor:
    """Attention of each document alone, one query at a time."""
    outs = []
    for start, end in ragged.cu_seqlens.unfold(0, 2, 1).tolist():
        for query in range(start, end):
            first = start if window is None else max(start, query - window // 2)
            last = end if window is None else min(end, query + window // 2 + 1)
            weights = torch.einsum("hd,khd->hk", q[query], k[first:last]).mul(SCALE).softmax(-1)
            outs.append(torch.einsum("hk,khd->hd", weights, v[first:last]))
    return torch.stack(outs)


@pytest.mark.parametrize("window", [None, 2, 6, 64])
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_packed_equals_each_document_alone(backend: str, window: int | None) -> None:
    ragged = ragged_batch((3, 0, 20, 1, 70))
    qkv = random_qkv(94, torch.float64)
    grad = torch.randn(94, 4, 8, dtype=torch.float64)
    packed = values_and_gradients(
        lambda q, k, v: attend(q, k, v, ragged, window=window, scale=SCALE, backend=backend),
        qkv,
        grad,
    )
    alone = values_and_gradients(
        lambda q, k, v: document_by_document(q, k, v, ragged, window), qkv, grad
    )
    for actual, expected in zip(packed, alone, strict=True):
        assert_same(actual, expected)


@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sdpa_equals_reference(dtype: torch.dtype, window: int | None, num_kv_heads: int) -> None:
    ragged = ragged_batch(LENGTHS)
    qkv = random_qkv(sum(LENGTHS), dtype, num_kv_heads=num_kv_heads)
    grad = torch.randn(sum(LENGTHS), 4, 8, dtype=dtype)
    results = [
        values_and_gradients(
            lambda q, k, v, name=name: attend(
                q, k, v, ragged, window=window, scale=SCALE, backend=name
            ),
            qkv,
            grad,
        )
        for name in ("sdpa", "reference")
    ]
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == dtype
        assert_same(actual, expected)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_empty_sequences_at_the_end_change_nothing(backend: str, window: int | None) -> None:
    short = ragged_batch((5, 130), max_seqlen=300)
    long = RaggedBatch(
        short.tokens,
        torch.cat((short.cu_seqlens, torch.full((9,), 135, dtype=torch.int32))),
        short.max_seqlen,
        short.position_ids,
    )
    q, k, v = random_qkv(135, torch.float32)
    outs = [
        attend(q, k, v, ragged, window=window, scale=SCALE, backend=backend)
        for ragged in (short, long)
    ]
    assert torch.equal(*outs)


class LargestTensor(TorchDispatchMode):
    """Remembers the element count of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("lengths", [(2048,), (1000, 1030, 18)])
@pytest.mark.parametrize("window", [None, 128, 512])
def test_sdpa_builds_nothing_of_the_square_of_a_long_document(
    window: int | None, lengths: Sequence[int]
) -> None:
    ragged = ragged_batch(lengths)
    q, k, v = random_qkv(2048, torch.float32, num_heads=1, num_kv_heads=1)
    with LargestTensor() as largest:
        # The op would hide its inside from the mode, so this is the function in it.
        out = sdpa_attention(q, k, v, ragged.cu_seqlens, ragged.max_seqlen, window, SCALE)
        out.sum().backward()
    assert 2048 * 8 <= largest.elements <= 2048 * (128 + (window or 0))


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("name", ["reference_attention", "sdpa_attention"])
def test_custom_ops_keep_their_promises_to_the_compiler(name: str, window: int | None) -> None:
    ragged = ragged_batch((5, 0, 30))
    q, k, v = random_qkv(35, torch.float32, num_kv_heads=2)
    op = getattr(torch.ops.flexbert, name).default
    torch.library.opcheck(op, (q, k, v, ragged.cu_seqlens, ragged.max_seqlen, window, SCALE))


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_autocast_does_not_reach_into_a_backend(backend: str) -> None:
    ragged = ragged_batch((5, 30))
    q, k, v = random_qkv(35, torch.float32)
    plain = attend(q, k, v, ragged, window=8, scale=SCALE, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(q, k, v, ragged, window=8, scale=SCALE, backend=backend), plain)
