"""Self-attention over a ragged batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flexbert.config.model import AttentionConfig, PositionConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.attention_backends import attend, check_backend
from flexbert.nn.checks import check_positive, check_probability
from flexbert.nn.layer_plan import LayerPlan
from flexbert.nn.projection import OutputProjection
from flexbert.nn.ragged import RaggedBatch
from flexbert.nn.rope import Rotation, rotate


@register("multi_head")
@dataclass(frozen=True, kw_only=True)
class MultiHeadConfig(AttentionConfig):
    """Multi-head attention (Vaswani et al. 2017), global in every ``global_every``-th layer.

    Args:
        window: total width seen by the other, local layers; None when all are global.
        output_dropout: dropout on what attention adds to the residual stream.
        backend: one of :mod:`flexbert.nn.attention_backends`, or ``auto``.
    """

    num_heads: int
    window: int | None = None
    global_every: int = 1
    rope: PositionConfig | None = None
    bias: bool = False
    output_dropout: float = 0.0
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_positive("num_heads", self.num_heads)
        check_positive("global_every", self.global_every)
        check_probability("output_dropout", self.output_dropout)
        check_backend("backend", self.backend)
        if self.window is not None and (self.window <= 0 or self.window % 2):
            raise ConfigError("window", f"must be positive and even, got {self.window}")
        if self.window is None and self.global_every > 1:
            raise ConfigError("window", f"local layers (global_every {self.global_every}) need one")
        if self.window is not None and self.global_every == 1:
            raise ConfigError("window", "has no use: with global_every 1 no layer is local")

    def build(self, hidden_size: int, layer: LayerPlan) -> MultiHeadAttention:
        return MultiHeadAttention(self, hidden_size, layer)


class MultiHeadAttention(nn.Module):
    def __init__(self, config: MultiHeadConfig, hidden_size: int, layer: LayerPlan) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.head_dim = hidden_size // config.num_heads
        self.window = layer.window
        self.backend = config.backend
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=config.bias)
        self.out = OutputProjection(hidden_size, hidden_size, bias=config.bias)
        self.dropout = nn.Dropout(config.output_dropout)

    def forward(self, hidden: Tensor, ragged: RaggedBatch, rotation: Rotation | None) -> Tensor:
        """``[N, C]`` to ``[N, C]``; without a rotation, position is not looked at."""
        qkv = self.qkv(hidden).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.unbind(1)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mixed = attend(
            q,
            k,
            v,
            ragged,
            window=self.window,
            scale=self.head_dim**-0.5,
            backend=self.backend,
        )
        return self.dropout(self.out(mixed.flatten(1)))
