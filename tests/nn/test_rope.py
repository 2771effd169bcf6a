from __future__ import annotations

import math

import pytest
import torch

from flexbert.nn.rope import Rope, rotate
from tests.nn.tolerances import assert_same


def test_rotation_turns_each_pair_by_its_angle() -> None:
    x = torch.randn(1, 1, 6, dtype=torch.float64)
    rotated = rotate(x, Rope(6, theta=100.0)(torch.tensor([5]), torch.float64))
    for pair in range(3):
        angle = 5 * 100.0 ** (-2 * pair / 6)
        expected = torch.view_as_complex(x[0, 0, [pair, pair + 3]]) * complex(
            math.cos(angle), math.sin(angle)
        )
        assert_same(rotated[0, 0, [pair, pair + 3]], torch.view_as_real(expected))


def test_scores_depend_on_distance_alone() -> None:
    rope = Rope(16, theta=10_000.0)
    q, k = torch.randn(2, 1, 2, 16, dtype=torch.float64)

    def score(q_position: int, k_position: int) -> torch.Tensor:
        turned_q = rotate(q, rope(torch.tensor([q_position]), torch.float64))
        turned_k = rotate(k, rope(torch.tensor([k_position]), torch.float64))
        return (turned_q * turned_k).sum(-1)

    assert_same(score(3, 10), score(1003, 1010))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rotated_tensors_keep_their_dtype(dtype: torch.dtype) -> None:
    rotation = Rope(8, theta=10_000.0)(torch.arange(5), torch.float32)
    assert rotate(torch.randn(5, 2, 8, dtype=dtype), rotation).dtype == dtype


def test_autocast_does_not_coarsen_angles() -> None:
    rope = Rope(8, theta=10_000.0)
    positions = torch.arange(8192)
    exact = rope(positions, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        cast = rope(positions, torch.float32)
    assert torch.equal(cast.cos, exact.cos)
    assert torch.equal(cast.sin, exact.sin)
