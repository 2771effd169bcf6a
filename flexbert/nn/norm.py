"""Normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexbert.config.fields import FUNCTION, key
from flexbert.config.model import NormConfig
from flexbert.config.registry import register


@register("layernorm")
@dataclass(frozen=True, kw_only=True)
class LayerNormConfig(NormConfig):
    """LayerNorm (Ba et al. 2016), always with a weight.

    Attributes:
        eps: added to the variance.
        bias: whether it has one.
    """

    eps: float = key(FUNCTION, default=1e-5, above=0)
    bias: bool = key(FUNCTION, default=False)

    def build(self, size: int) -> nn.LayerNorm:
        return nn.LayerNorm(size, eps=self.eps, bias=self.bias)


@register("rmsnorm")
@dataclass(frozen=True, kw_only=True)
class RMSNormConfig(NormConfig):
    """RMSNorm (Zhang and Sennrich 2019), always with a weight.

    Attributes:
        eps: added to the mean square.
        bias: whether it has one.
    """

    eps: float = key(FUNCTION, default=1e-6, above=0)
    bias: bool = key(FUNCTION, default=False)

    def build(self, size: int) -> RMSNorm:
        return RMSNorm(size, self.eps, self.bias)


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight + bias``; torch's own has no bias."""

    def __init__(self, size: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        # As autocast has it for LayerNorm; and torch fuses only where input and weight agree.
        x = x.to(self.weight.dtype)
        normed = F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return normed if self.bias is None else normed + self.bias
