"""What a model is made of: the abstract families that blocks belong to, and the model's own node.

Nothing here imports torch. Members of the families live in ``flexbert.nn``, each in the file that
implements it; every one of them turns itself into a module with ``build``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexbert.config.registry import Component
from flexbert.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from flexbert.nn.layer_plan import LayerPlan


class NormConfig(Component, ABC, family="norm"):
    @abstractmethod
    def build(self, hidden_size: int) -> nn.Module:
        """A module from ``[..., C]`` to ``[..., C]``."""


class EmbeddingConfig(Component, ABC, family="embedding"):
    @abstractmethod
    def build(self, vocab_size: int, hidden_size: int) -> nn.Module:
        """A module from a ragged batch to hidden states ``[N, C]``; its ``tokens.weight`` is the
        matrix ``[V, C]`` that a decoder can be tied to."""


class PositionConfig(Component, ABC, family="position"):
    """How attention learns of relative position (rotary embeddings, for one)."""

    @abstractmethod
    def layer_theta(self, kind: str) -> float | None:
        """The rotary base of layers of this attention kind (``global`` or ``local``), if any."""

    @abstractmethod
    def build(self, head_dim: int, theta: float) -> nn.Module:
        """A module from position ids ``[N]`` and a dtype to the rotation of queries and keys."""


class AttentionConfig(Component, ABC, family="attention"):
    """Every member has these fields: they decide the layer plan."""

    num_heads: int
    window: int | None
    global_every: int
    rope: PositionConfig | None
    backend: str

    @abstractmethod
    def build(self, hidden_size: int, layer: LayerPlan) -> nn.Module:
        """A module from hidden states ``[N, C]``, a ragged batch and a rotation to ``[N, C]``."""


class MLPConfig(Component, ABC, family="mlp"):
    @abstractmethod
    def build(self, hidden_size: int) -> nn.Module:
        """A module from ``[N, C]`` to ``[N, C]``."""


class BlockConfig(Component, ABC, family="block"):
    """How norms and residuals surround attention and MLP."""

    def skips_attention_norm(self, index: int) -> bool:
        """Whether the attention of layer ``index`` reads the residual stream as it is."""
        return False

    @abstractmethod
    def build(self, model: ModelConfig, layer: LayerPlan) -> nn.Module:
        """One encoder layer."""


class HeadConfig(Component, ABC, family="head"):
    @abstractmethod
    def build(self, model: ModelConfig) -> nn.Module:
        """A module from selected hidden states ``[M, C]`` and the embedding matrix ``[V, C]`` to
        logits ``[M, V]``."""


class InitConfig(Component, ABC, family="init"):
    @abstractmethod
    def apply(self, module: nn.Module, model: ModelConfig) -> None:
        """Fill every parameter of a built model in place."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """An encoder with a masked-LM head; each part is a node of its own."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    embedding: EmbeddingConfig
    block: BlockConfig
    attention: AttentionConfig
    mlp: MLPConfig
    final_norm: NormConfig | None
    head: HeadConfig
    init: InitConfig

    def __post_init__(self) -> None:
        for key in ("vocab_size", "hidden_size", "num_layers"):
            if getattr(self, key) <= 0:
                raise ConfigError(key, f"must be positive, got {getattr(self, key)}")
        if self.hidden_size % self.attention.num_heads:
            raise ConfigError(
                "attention.num_heads",
                f"must divide hidden_size {self.hidden_size}, got {self.attention.num_heads}",
            )
