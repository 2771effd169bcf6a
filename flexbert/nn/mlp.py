"""Feed-forward blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flexbert.config.model import MLPConfig
from flexbert.config.registry import register
from flexbert.nn.activations import ACTIVATIONS, check_activation
from flexbert.nn.checks import check_positive, check_probability
from flexbert.nn.projection import OutputProjection


@register("glu")
@dataclass(frozen=True, kw_only=True)
class GLUConfig(MLPConfig):
    """Gated linear unit (Shazeer 2020): GeGLU with ``gelu``, SwiGLU with ``silu``."""

    intermediate_size: int
    activation: str = "gelu"
    bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_positive("intermediate_size", self.intermediate_size)
        check_activation("activation", self.activation)
        check_probability("dropout", self.dropout)

    def build(self, hidden_size: int) -> GLU:
        return GLU(self, hidden_size)


class GLU(nn.Module):
    """``down(dropout(activation(a) * b))``, where ``up`` gives a in its first half and b after."""

    def __init__(self, config: GLUConfig, hidden_size: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up = nn.Linear(hidden_size, 2 * config.intermediate_size, bias=config.bias)
        self.down = OutputProjection(config.intermediate_size, hidden_size, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        activated, multiplier = self.up(hidden).chunk(2, dim=-1)
        return self.down(self.dropout(self.activation(activated) * multiplier))
