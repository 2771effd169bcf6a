"""FLOPs per token against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flexbert.recipe.flops import flops_per_token, mean_keys_attended


@pytest.mark.parametrize("window", [None, 2, 8, 128])
def test_mean_keys_equals_counting_every_pair(window: int | None) -> None:
    lengths = np.array([1, 2, 5, 9, 64, 65, 200], dtype=np.uint32)
    pairs = 0
    for n in lengths.tolist():
        distance = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
        pairs += n * n if window is None else int((distance <= window // 2).sum())
    assert mean_keys_attended(lengths, window) == pytest.approx(pairs / lengths.sum())


def test_flops_equal_the_stated_formula() -> None:
    flops = flops_per_token(
        encoder_matrices=1000, head_matrices=100, mask_rate=0.3, attention=[(8, 10), (6, 4)]
    )
    assert flops == 6 * 1000 + 6 * 100 * 0.3 + 12 * (8 * 10 + 6 * 4)
