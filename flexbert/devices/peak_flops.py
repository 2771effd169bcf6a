"""How fast a device multiplies matrices, which a model's rate is held against."""

from __future__ import annotations

import math
import time
from functools import cache

import torch


@cache
def measured_peak_flops(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Floating-point operations a second in products of square matrices, the best of many.

    They are taken for a fifth of a second: the first ones may meet a sleeping clock, and a machine
    that is busy with something else may pause.

    A model spends its time on such products, if smaller ones, and on all that they leave out.

    Args:
        size: rows and columns; by default enough that a product takes far longer than its launch,
            8192 on a GPU and 1024 on a CPU.
    """
    size = size or (8192 if device.type == "cuda" else 1024)
    # Not zeros or ones, with which a GPU draws less power and runs faster; nor torch's own random
    # numbers, which others count on.
    generator = torch.Generator(device).manual_seed(0)
    a, b, out = (
        torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(3)
    )
    end, best = time.perf_counter() + 0.2, math.inf
    while best == math.inf or time.perf_counter() < end:
        best = min(best, _seconds(a, b, out))
    return 2 * size**3 / best


def _seconds(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
    begin = time.perf_counter()
    torch.mm(a, b, out=out)
    if out.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin
