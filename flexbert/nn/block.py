"""Encoder layers: how norms and residuals surround attention and MLP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from flexbert.config.fields import FUNCTION, key
from flexbert.config.model import BlockConfig, LayerPlan, ModelConfig, NormConfig
from flexbert.config.registry import register
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.rope import Rotation


class Block(nn.Module):
    """What every layer has: attention and MLP of its own kind."""

    def __init__(self, model: ModelConfig, layer: LayerPlan) -> None:
        super().__init__()
        self.attention = layer.parts.attention.build(model.hidden_size, layer)
        self.mlp = layer.parts.mlp.build(model.hidden_size)


@dataclass(frozen=True, kw_only=True)
class _PreNormedConfig(BlockConfig):
    """A block whose attention and MLP read normalised hidden states.

    Attributes:
        norm: what each norm of the block is.
        skip_first_norm: leave out the first layer's attention norm, for an embedding that ends
            with a norm of its own.
    """

    norm: NormConfig = key(FUNCTION)
    skip_first_norm: bool = key(FUNCTION, default=False)

    def skips_attention_norm(self, index: int) -> bool:
        return self.skip_first_norm and index == 0

    def build_attention_norm(self, hidden_size: int, layer: LayerPlan) -> nn.Module:
        return nn.Identity() if layer.skip_attention_norm else self.norm.build(hidden_size)


@register("pre_norm")
@dataclass(frozen=True, kw_only=True)
class PreNormConfig(_PreNormedConfig):
    """Normalise what attention and MLP read (Xiong et al. 2020)."""

    def build(self, model: ModelConfig, layer: LayerPlan) -> PreNormBlock:
        return PreNormBlock(self, model, layer)


class PreNormBlock(Block):
    def __init__(self, config: PreNormConfig, model: ModelConfig, layer: LayerPlan) -> None:
        super().__init__(model, layer)
        self.attention_norm = config.build_attention_norm(model.hidden_size, layer)
        self.mlp_norm = config.norm.build(model.hidden_size)

    def forward(self, hidden: Tensor, packed: PackedBatch, rotation: Rotation | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden), packed, rotation)
        return hidden + self.mlp(self.mlp_norm(hidden))


@register("post_norm")
@dataclass(frozen=True, kw_only=True)
class PostNormConfig(BlockConfig):
    """Normalise the residual stream after attention and after the MLP (Vaswani et al. 2017).

    Attributes:
        norm: what each norm of the block is.
    """

    ends_with_norm: ClassVar[bool] = True

    norm: NormConfig = key(FUNCTION)

    def build(self, model: ModelConfig, layer: LayerPlan) -> PostNormBlock:
        return PostNormBlock(self, model, layer)


class PostNormBlock(Block):
    def __init__(self, config: PostNormConfig, model: ModelConfig, layer: LayerPlan) -> None:
        super().__init__(model, layer)
        self.attention_norm = config.norm.build(model.hidden_size)
        self.mlp_norm = config.norm.build(model.hidden_size)

    def forward(self, hidden: Tensor, packed: PackedBatch, rotation: Rotation | None) -> Tensor:
        hidden = self.attention_norm(hidden + self.attention(hidden, packed, rotation))
        return self.mlp_norm(hidden + self.mlp(hidden))


@register("sandwich")
@dataclass(frozen=True, kw_only=True)
class SandwichConfig(_PreNormedConfig):
    """Normalise what attention and MLP read and what they write (CogView, Ding et al. 2021)."""

    def build(self, model: ModelConfig, layer: LayerPlan) -> SandwichBlock:
        return SandwichBlock(self, model, layer)


class SandwichBlock(Block):
    def __init__(self, config: SandwichConfig, model: ModelConfig, layer: LayerPlan) -> None:
        super().__init__(model, layer)
        self.attention_norm = config.build_attention_norm(model.hidden_size, layer)
        self.attention_output_norm = config.norm.build(model.hidden_size)
        self.mlp_norm = config.norm.build(model.hidden_size)
        self.mlp_output_norm = config.norm.build(model.hidden_size)

    def forward(self, hidden: Tensor, packed: PackedBatch, rotation: Rotation | None) -> Tensor:
        attended = self.attention(self.attention_norm(hidden), packed, rotation)
        hidden = hidden + self.attention_output_norm(attended)
        return hidden + self.mlp_output_norm(self.mlp(self.mlp_norm(hidden)))


@register("parallel")
@dataclass(frozen=True, kw_only=True)
class ParallelConfig(BlockConfig):
    """Attention and MLP read the same residual stream (Wang and Komatsuzaki 2021).

    Attributes:
        norm: what each norm of the block is.
        separate_norms: one norm for each (GPT-NeoX) instead of one for both (GPT-J, PaLM).
    """

    norm: NormConfig = key(FUNCTION)
    separate_norms: bool = key(FUNCTION, default=False)

    def build(self, model: ModelConfig, layer: LayerPlan) -> ParallelBlock:
        return ParallelBlock(self, model, layer)


class ParallelBlock(Block):
    def __init__(self, config: ParallelConfig, model: ModelConfig, layer: LayerPlan) -> None:
        super().__init__(model, layer)
        self.norm = config.norm.build(model.hidden_size)
        self.mlp_norm = config.norm.build(model.hidden_size) if config.separate_norms else None

    def forward(self, hidden: Tensor, packed: PackedBatch, rotation: Rotation | None) -> Tensor:
        normed = self.norm(hidden)
        mlp_input = normed if self.mlp_norm is None else self.mlp_norm(hidden)
        return hidden + self.attention(normed, packed, rotation) + self.mlp(mlp_input)
