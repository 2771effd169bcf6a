"""Small models of each shape that tiling has to know, by the sizes that it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flexbert.config.model import LayerConfig, ModelConfig
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.block import ParallelConfig, PostNormConfig, SandwichConfig
from flexbert.nn.build import build_model
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.mlp import GLUConfig, PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig, SinusoidalPositionsConfig
from tests.nn.cases import attention_config, small_model

HEAD_DIM = 4
NORM, BIASED = LayerNormConfig(), LayerNormConfig(bias=True)


def modernbert(
    hidden: int = 8, heads: int = 2, intermediate: int = 6, **changes: Any
) -> ModelConfig:
    """ModernBERT in small, by the sizes that tiling changes; the smallest unless told."""
    fields: dict[str, Any] = {
        "hidden_size": hidden,
        "num_layers": 3,
        "attention": attention_config(num_heads=heads, head_dim=HEAD_DIM),
        "mlp": GLUConfig(intermediate_size=intermediate),
    }
    return small_model(**fields | changes)


def grouped_queries(
    hidden: int = 8, heads: int = 2, intermediate: int = 6, **changes: Any
) -> ModelConfig:
    fields: dict[str, Any] = {
        "attention": attention_config(
            num_heads=2 * heads,
            num_kv_heads=heads,
            head_dim=HEAD_DIM,
            qk_norm=RMSNormConfig(bias=True),
            bias=True,
        ),
        "block": SandwichConfig(norm=BIASED),
        "mlp": GLUConfig(intermediate_size=intermediate, bias=True),
        "head": MLMHeadConfig(norm=NORM, dense=False, tied=False),
    }
    return modernbert(hidden, **fields | changes)


def bert(hidden: int = 8, heads: int = 2, intermediate: int = 6, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "embedding": TokenEmbeddingConfig(
            positions=LearnedPositionsConfig(length=16, offset=2), token_types=2, norm=BIASED
        ),
        "block": PostNormConfig(norm=BIASED),
        "attention": MultiHeadConfig(num_heads=heads, head_dim=HEAD_DIM, bias=True),
        "mlp": PlainMLPConfig(intermediate_size=intermediate, bias=True),
        "final_norm": None,
        "head": MLMHeadConfig(norm=BIASED, bias=True),
    }
    return modernbert(hidden, **fields | changes)


def albert(hidden: int = 8, heads: int = 2, intermediate: int = 6, **changes: Any) -> ModelConfig:
    """Narrow embeddings, and a layer of another MLP."""
    fields: dict[str, Any] = {
        "embedding": TokenEmbeddingConfig(norm=BIASED, size=hidden * 3 // 4),
        "block": ParallelConfig(norm=NORM, separate_norms=True),
        "layers": {"0": LayerConfig(mlp=PlainMLPConfig(intermediate_size=2 * intermediate))},
    }
    return modernbert(hidden, heads, intermediate, **fields | changes)


def sinusoidal(
    hidden: int = 8, heads: int = 2, intermediate: int = 6, **changes: Any
) -> ModelConfig:
    positions = SinusoidalPositionsConfig(learned_scale=True)
    return modernbert(
        hidden, heads, intermediate, embedding=TokenEmbeddingConfig(positions=positions), **changes
    )


Family = Callable[..., ModelConfig]
FAMILIES: list[Family] = [modernbert, grouped_queries, bert, albert, sinusoidal]


def random_state(config: ModelConfig) -> dict[str, Tensor]:
    """Weights with nothing at zero or one, where an init would leave it."""
    return {name: torch.randn(p.shape) for name, p in build_model(config).named_parameters()}
