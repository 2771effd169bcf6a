"""Rotary embeddings against the definition, and their scaling against transformers'."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from flexbert.nn import rope as rope_module
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.rope import Rope, RopeConfig, rotate
from flexbert.nn.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    NTKAllPairsScaling,
    NTKScaling,
    ScalingConfig,
    YarnScaling,
)
from tests.nn.cases import packed_batch
from tests.nn.tolerances import assert_same


def rope(size: int, theta: float, **options: Any) -> Rope:
    return Rope(RopeConfig(theta={"global": theta}, **options), size, theta)


def at(positions: list[int]) -> PackedBatch:
    """One document, its tokens at these positions."""
    ids = torch.tensor(positions)
    ends = torch.tensor([0, len(ids)], dtype=torch.int32)
    return PackedBatch(torch.zeros_like(ids), ends, len(ids), ids)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_turns_each_pair_by_its_angle(interleaved: bool, fraction: float) -> None:
    x = torch.randn(1, 1, 12)
    size = int(12 * fraction)
    rotated = rotate(x, rope(size, 100.0, interleaved=interleaved, fraction=fraction)(at([5])))
    for pair in range(size // 2):
        angle = 5 * 100.0 ** (-2 * pair / size)
        dims = [2 * pair, 2 * pair + 1] if interleaved else [pair, pair + size // 2]
        turn = complex(math.cos(angle), math.sin(angle))
        expected = torch.view_as_complex(x[0, 0, dims]) * turn
        assert_same(rotated[0, 0, dims], torch.view_as_real(expected))
    assert torch.equal(rotated[..., size:], x[..., size:])


def test_scores_depend_on_distance_alone() -> None:
    turn = rope(16, 10_000.0)
    q, k = torch.randn(2, 1, 2, 16)

    def score(q_position: int, k_position: int) -> torch.Tensor:
        return (rotate(q, turn(at([q_position]))) * rotate(k, turn(at([k_position])))).sum(-1)

    assert_same(score(3, 10), score(103, 110))


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("interleaved", [False, True])
def test_tokens_are_turned_alike_few_or_many_at_a_time(
    interleaved: bool, fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = rope(round(12 * fraction), 100.0, interleaved=interleaved, fraction=fraction)
    rotation = turn(at([3, 0, 7, 1, 4, 100, 2]))
    x = torch.randn(7, 2, 12, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(x)

    def turned() -> tuple[torch.Tensor, torch.Tensor]:
        out = rotate(x, rotation)
        return out, torch.autograd.grad(out, x, grad)[0]

    at_once = turned()
    monkeypatch.setattr(rope_module, "TOKENS_AT_A_TIME", 3)
    for few, all_ in zip(turned(), at_once, strict=True):
        assert torch.equal(few, all_)
    assert torch.autograd.gradcheck(lambda y: rotate(y, rotation), x)
    assert torch.autograd.gradgradcheck(lambda y: rotate(y, rotation), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rotated_tensors_keep_their_dtype(dtype: torch.dtype) -> None:
    rotation = rope(8, 10_000.0)(at([0, 1, 2, 3, 4]))
    assert rotate(torch.randn(5, 2, 8, dtype=dtype), rotation).dtype == dtype


def test_autocast_does_not_coarsen_angles() -> None:
    turn = rope(8, 10_000.0)
    batch = at(list(range(8192)))
    exact = turn(batch)
    with torch.autocast("cpu", torch.bfloat16):
        cast = turn(batch)
    assert torch.equal(cast.cos, exact.cos)
    assert torch.equal(cast.sin, exact.sin)


def their_frequencies(kind: str, seq_len: int | None = None, **scaling: Any) -> tuple[Any, float]:
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        head_dim=32,
        max_position_embeddings=128,
        rope_parameters={"rope_type": kind, "rope_theta": 1000.0, **scaling},
    )
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=seq_len)


@pytest.mark.parametrize(
    ("ours", "kind", "theirs"),
    [
        (LinearScaling(factor=3.0), "linear", {"factor": 3.0}),
        (YarnScaling(factor=4.0, original_length=128), "yarn", {"factor": 4.0}),
        (
            YarnScaling(factor=16.0, original_length=128, beta_fast=20.0, beta_slow=2.0),
            "yarn",
            {"factor": 16.0, "beta_fast": 20.0, "beta_slow": 2.0},
        ),
    ],
)
def test_scaling_equals_transformers(
    ours: ScalingConfig, kind: str, theirs: dict[str, float]
) -> None:
    expected, factor = their_frequencies(kind, **theirs)
    assert_same(ours.inverse_frequencies(1000.0, 32, at([0, 1])), expected)
    assert ours.attention_factor() == pytest.approx(factor)


def test_dynamic_scaling_equals_transformers_for_each_document_alone() -> None:
    packed = packed_batch((100, 0, 128, 300, 1000))
    ours = DynamicNTKScaling(factor=2.0, original_length=128)
    frequencies = ours.inverse_frequencies(1000.0, 32, packed)
    for start, end in packed.cu_seqlens.unfold(0, 2, 1).tolist():
        expected, _ = their_frequencies("dynamic", seq_len=end - start, factor=2.0)
        for token in range(start, end):
            assert_same(frequencies[token, 0], expected)


def test_ntk_slows_the_slowest_pair_by_the_factor_and_the_fastest_not_at_all() -> None:
    plain = LinearScaling(factor=1.0).inverse_frequencies(1000.0, 32, at([0]))
    scaled = NTKScaling(factor=8.0).inverse_frequencies(1000.0, 32, at([0]))
    assert_same(scaled[0], plain[0])
    assert_same(scaled[-1], plain[-1] / 8)


def test_ntk_over_all_pairs_slows_pair_i_by_its_power_of_the_factor() -> None:
    plain = LinearScaling(factor=1.0).inverse_frequencies(1000.0, 32, at([0]))
    scaled = NTKAllPairsScaling(factor=8.0).inverse_frequencies(1000.0, 32, at([0]))
    pair = torch.arange(16)
    assert_same(scaled, plain / 8.0 ** ((2 * pair + 2) / 32))
