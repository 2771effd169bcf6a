"""Normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from flexbert.config.model import NormConfig
from flexbert.config.registry import register
from flexbert.nn.checks import check_positive


@register("layernorm")
@dataclass(frozen=True, kw_only=True)
class LayerNormConfig(NormConfig):
    """LayerNorm (Ba et al. 2016), always with a weight."""

    eps: float = 1e-5
    bias: bool = False

    def __post_init__(self) -> None:
        check_positive("eps", self.eps)

    def build(self, hidden_size: int) -> nn.Module:
        return nn.LayerNorm(hidden_size, eps=self.eps, bias=self.bias)
