"""FLOPs against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flexbert.nn.flops import ModelCost, keys_attended

LENGTHS = np.array([1, 2, 5, 9, 64, 65, 200], dtype=np.uint32)


def pairs(window: int | None) -> int:
    counted = 0
    for n in LENGTHS.tolist():
        distance = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
        counted += n * n if window is None else int((distance <= window // 2).sum())
    return counted


@pytest.mark.parametrize("window", [None, 2, 8, 128])
def test_keys_attended_equal_counting_every_pair(window: int | None) -> None:
    assert keys_attended(LENGTHS, window) == pairs(window)


def test_flops_equal_the_stated_formula() -> None:
    cost = ModelCost(
        encoder_matrices=1000, head_matrices=100, attention=((8, None), (6, 8), (8, 8))
    )
    tokens = int(LENGTHS.sum())
    expected = (6 * 1000 + 6 * 100 * 0.3) * tokens
    expected += 12 * (8 * pairs(None) + 6 * pairs(8) + 8 * pairs(8))
    assert cost.flops(LENGTHS, 0.3) == pytest.approx(expected)
    assert cost.flops_per_token(LENGTHS, 0.3) == pytest.approx(expected / tokens)
