"""Feed-forward blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flexbert.config.fields import COMPUTATION, FUNCTION, key
from flexbert.config.model import MLPConfig
from flexbert.config.registry import register
from flexbert.nn.activations import ACTIVATIONS
from flexbert.nn.projection import OutputProjection
from flexbert.nn.units import DimensionUnits, Units


@dataclass(frozen=True, kw_only=True)
class _TwoLayerConfig(MLPConfig):
    """A matrix up, an activation, a matrix down.

    Attributes:
        intermediate_size: width between the two matrices.
        activation: what stands between them.
        bias: whether the first matrix has one.
        output_bias: whether the second matrix has one; null is ``bias``.
        dropout: on what the second matrix reads.
        output_dropout: on what is added to the residual stream.
    """

    intermediate_size: int = key(FUNCTION, above=0)
    activation: str = key(FUNCTION, default="gelu", one_of=ACTIVATIONS)
    bias: bool = key(FUNCTION, default=False)
    output_bias: bool | None = key(FUNCTION, default=None)
    dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)
    output_dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)

    @property
    def down_bias(self) -> bool:
        return self.bias if self.output_bias is None else self.output_bias


@register("mlp")
@dataclass(frozen=True, kw_only=True)
class PlainMLPConfig(_TwoLayerConfig):
    """Two matrices with an activation between them (Vaswani et al. 2017)."""

    def build(self, hidden_size: int) -> PlainMLP:
        return PlainMLP(self, hidden_size)


class PlainMLP(nn.Module):
    def __init__(self, config: PlainMLPConfig, hidden_size: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up = nn.Linear(hidden_size, config.intermediate_size, bias=config.bias)
        self.down = OutputProjection(config.intermediate_size, hidden_size, bias=config.down_bias)
        self.dropout = nn.Dropout(config.dropout)
        self.output_dropout = nn.Dropout(config.output_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        activated = self.activation(self.up(hidden))
        return self.output_dropout(self.down(self.dropout(activated)))

    def dimension_units(self) -> DimensionUnits:
        """Single channels throughout."""
        return {}


@register("glu")
@dataclass(frozen=True, kw_only=True)
class GLUConfig(_TwoLayerConfig):
    """Gated linear unit (Shazeer 2020): GeGLU with ``gelu``, SwiGLU with ``silu``."""

    def build(self, hidden_size: int) -> GLU:
        return GLU(self, hidden_size)


class GLU(nn.Module):
    """``down(dropout(activation(a) * b))``, where ``up`` gives a in its first half and b after."""

    def __init__(self, config: GLUConfig, hidden_size: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up = nn.Linear(hidden_size, 2 * config.intermediate_size, bias=config.bias)
        self.down = OutputProjection(config.intermediate_size, hidden_size, bias=config.down_bias)
        self.dropout = nn.Dropout(config.dropout)
        self.output_dropout = nn.Dropout(config.output_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        activated, multiplier = self.up(hidden).chunk(2, dim=-1)
        gated = self.activation(activated) * multiplier
        return self.output_dropout(self.down(self.dropout(gated)))

    def dimension_units(self) -> DimensionUnits:
        """Both halves of ``up``, each of single channels."""
        half = Units(self.down.in_features)
        return {("up", 0): (half, half)}
