"""Encoder layers: how norms and residuals surround attention and MLP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flexbert.config.model import BlockConfig, ModelConfig, NormConfig
from flexbert.config.registry import register
from flexbert.nn.layer_plan import LayerPlan
from flexbert.nn.ragged import RaggedBatch
from flexbert.nn.rope import Rotation


@register("pre_norm")
@dataclass(frozen=True, kw_only=True)
class PreNormConfig(BlockConfig):
    """Normalise what attention and MLP read (Xiong et al. 2020).

    Args:
        skip_first_norm: leave out the first layer's attention norm, for an embedding that ends
            with a norm of its own.
    """

    norm: NormConfig
    skip_first_norm: bool = False

    def skips_attention_norm(self, index: int) -> bool:
        return self.skip_first_norm and index == 0

    def build(self, model: ModelConfig, layer: LayerPlan) -> PreNormBlock:
        return PreNormBlock(self, model, layer)


class PreNormBlock(nn.Module):
    def __init__(self, config: PreNormConfig, model: ModelConfig, layer: LayerPlan) -> None:
        super().__init__()
        hidden_size = model.hidden_size
        self.attention_norm = (
            nn.Identity() if layer.skip_attention_norm else config.norm.build(hidden_size)
        )
        self.attention = model.attention.build(hidden_size, layer)
        self.mlp_norm = config.norm.build(hidden_size)
        self.mlp = model.mlp.build(hidden_size)

    def forward(self, hidden: Tensor, ragged: RaggedBatch, rotation: Rotation | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden), ragged, rotation)
        return hidden + self.mlp(self.mlp_norm(hidden))
