"""How far two computations of the same mathematics may lie apart."""

from __future__ import annotations

import torch
from torch import Tensor

# Largest difference, as a share of the largest expected value.
TOLERANCE = {
    # Unit roundoff 1e-16; sums of some hundred terms through a few layers lose four to six digits.
    torch.float64: 1e-10,
    # Unit roundoff 6e-8, and the same loss.
    torch.float32: 1e-4,
    # Unit roundoff 4e-3: inputs and results are rounded, sums inside are kept in float32.
    torch.bfloat16: 2e-2,
}


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of the less precise of their dtypes."""
    dtype = max(actual.dtype, expected.dtype, key=TOLERANCE.__getitem__)
    assert actual.shape == expected.shape
    actual, expected = actual.detach().double(), expected.detach().double()
    assert (actual - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()
