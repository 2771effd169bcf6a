"""Attention by matrix products: its forward and its written-out backward."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from flexbert.nn.attention_backends import attend
from flexbert.nn.attention_backends.backend import Call
from flexbert.nn.attention_backends.cpu import matmul
from flexbert.nn.attention_backends.cpu.global_plan import MIN_QUERIES
from flexbert.nn.attention_backends.cpu.matmul import matmul_attention, matmul_attention_backward
from flexbert.nn.attention_backends.reference import dense_attention
from flexbert.nn.attention_backends.sdpa import sdpa_attention
from tests.nn.cases import packed_batch
from tests.nn.test_attention_backends import LENGTHS, SCALE, WINDOWS, Memory, random_qkv
from tests.nn.tolerances import assert_same


def call_of(lengths: Sequence[int], window: int | None) -> Call:
    packed = packed_batch(lengths)
    return Call(packed.cu_seqlens, packed.max_seqlen, window, SCALE)


def by_matmul(grad: Tensor, qkv: Sequence[Tensor], call: Call) -> tuple[Tensor, ...]:
    with torch.no_grad():
        out = matmul_attention(*qkv, call, None)
        return (out, *matmul_attention_backward(grad, *qkv, call))


def by_definition(grad: Tensor, qkv: Sequence[Tensor], call: Call) -> tuple[Tensor, ...]:
    out = dense_attention(*qkv, call, None)
    return (out, *torch.autograd.grad(out, list(qkv), grad))


@pytest.mark.parametrize("tile", [matmul.TILE, 3000])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    window: int | None,
    num_kv_heads: int,
    tile: int,
) -> None:
    # The small one cuts documents into several tiles and groups of them into several rows.
    monkeypatch.setattr(matmul, "TILE", tile)
    call = call_of(LENGTHS, window)
    qkv = random_qkv(sum(LENGTHS), dtype, num_kv_heads=num_kv_heads)
    grad = torch.randn_like(qkv[0])
    actual, expected = by_matmul(grad, qkv, call), by_definition(grad, qkv, call)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        assert_same(ours, theirs)


@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (0, 0, 2, 0)])
@pytest.mark.parametrize("window", [None, 2])
def test_the_shortest_of_batches(window: int | None, lengths: Sequence[int]) -> None:
    call = call_of(lengths, window)
    qkv = random_qkv(sum(lengths), torch.float64)
    grad = torch.randn_like(qkv[0])
    for ours, theirs in zip(
        by_matmul(grad, qkv, call), by_definition(grad, qkv, call), strict=True
    ):
        assert_same(ours, theirs)


@pytest.mark.parametrize("window", [None, 2])
def test_no_tokens_have_no_attention(window: int | None) -> None:
    q, k, v = random_qkv(0, torch.bfloat16)
    for result in by_matmul(q.detach(), (q, k, v), call_of((0,), window)):
        assert result.shape == q.shape


@pytest.mark.parametrize("window", [None, 128])
def test_bfloat16_rounds_little_more_than_torchs_own(window: int | None) -> None:
    lengths = (500, 12, 300)
    call = call_of(lengths, window)
    exact = random_qkv(sum(lengths), torch.float64, head_dim=64)
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    grad = torch.randn_like(rounded[0])
    expected = by_definition(
        grad.double(), [x.detach().double().requires_grad_() for x in rounded], call
    )
    out = sdpa_attention(*rounded, call, None)
    torchs = (out, *torch.autograd.grad(out, rounded, grad))
    ours = by_matmul(grad, rounded, call)
    for mine, other, truth in zip(ours, torchs, expected, strict=True):
        error, others = ((x.double() - truth).norm() / truth.norm() for x in (mine, other))
        assert error < max(2 * others, 0.01)


@pytest.mark.parametrize("lengths", [(4096,), (2000, 2060, 36), (128,) * 32])
@pytest.mark.parametrize("window", [None, 128])
def test_scores_are_built_a_tile_at_a_time(
    window: int | None, lengths: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "TILE", 1 << 18)
    call = call_of(lengths, window)
    num_heads = 2
    q, k, v = (x.detach() for x in random_qkv(4096, torch.bfloat16, num_heads=2, num_kv_heads=2))
    with Memory() as memory:
        matmul_attention(q, k, v, call, None)
        matmul_attention_backward(q, q, k, v, call)
    tile = max(matmul.TILE, num_heads * MIN_QUERIES * max(lengths))
    # Tokens of a tile are padded to whole rows.
    assert memory.largest <= tile
    # Scores, probabilities, their two gradients and one copy, beside inputs, results and sums.
    assert memory.peak < 5 * 2 * tile + 40 * q.numel() * 2


def test_the_result_does_not_depend_on_what_stands_beside_a_document() -> None:
    call, alone = call_of((70, 200, 3), None), call_of((200,), None)
    q, k, v = (x.detach() for x in random_qkv(273, torch.float64))
    packed = matmul_attention(q, k, v, call, None)[70:270]
    assert_same(packed, matmul_attention(*(x[70:270] for x in (q, k, v)), alone, None))


@pytest.mark.parametrize("window", [None, 8])
def test_two_runs_give_the_same_bits(window: int | None) -> None:
    packed = packed_batch(LENGTHS)
    results = []
    q, k, v = random_qkv(sum(LENGTHS), torch.bfloat16)
    for _ in range(2):
        out = attend(q, k, v, packed, window=window, scale=SCALE, backend="matmul")
        results.append((out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
