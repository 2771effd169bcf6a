"""Attention with linear biases (Press et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor


def alibi_slopes(num_heads: int) -> Tensor:
    """How strongly each head is drawn to near keys: ``[H]``, float32, on the CPU.

    Head h adds ``-slope[h] * |i - j|`` to the score of query i and key j; the paper's bias is
    causal, its mirror image for an encoder is MosaicBERT's (Portes et al. 2023). For a power of two
    the slopes are geometric from ``2 ** (-8 / H)`` to ``2 ** -8`` (section 3). Any other number
    takes those of the power of two below it and then every second one of the power above it, as
    the authors' published code does.
    """
    below = 1 << (num_heads.bit_length() - 1)
    slopes = [2 ** (-8 * i / below) for i in range(1, below + 1)]
    slopes += [2 ** (-8 * i / (2 * below)) for i in range(1, 2 * (num_heads - below), 2)]
    return torch.tensor(slopes, dtype=torch.float32, device="cpu")
