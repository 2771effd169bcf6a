"""Small models and batches for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from flexbert.config.backend_choice import BackendChoice
from flexbert.config.layer_windows import LayerWindows
from flexbert.config.model import ModelConfig
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.block import PreNormConfig
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import MegatronInitConfig
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.rope import RopeConfig

VOCAB_SIZE = 100


def global_every(n: int, window: int) -> dict[str, Any]:
    """Windows of ModernBERT's kind: every n-th layer is global, from the first on."""
    return {"repeat": ["global", *[window] * (n - 1)]}


def attention_config(**changes: Any) -> MultiHeadConfig:
    fields: dict[str, Any] = {
        "num_heads": 4,
        "windows": global_every(3, 8),
        "rope": RopeConfig(theta={"global": 160_000.0, "local": 10_000.0}),
    }
    fields |= changes
    fields["windows"] = LayerWindows.parse(fields["windows"])
    fields["backend"] = BackendChoice.parse(fields.get("backend", "auto"))
    return MultiHeadConfig(**fields)


def small_model(**changes: Any) -> ModelConfig:
    """ModernBERT in small; ``changes`` replace fields of the model's own node."""
    norm = LayerNormConfig()
    fields: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "num_layers": 4,
        "embedding": TokenEmbeddingConfig(norm=norm),
        "block": PreNormConfig(norm=norm, skip_first_norm=True),
        "attention": attention_config(),
        "mlp": GLUConfig(intermediate_size=48),
        "final_norm": norm,
        "head": MLMHeadConfig(norm=norm),
        # So large that attention and activations leave their linear range.
        "init": MegatronInitConfig(std=0.4),
    }
    return ModelConfig(**fields | changes)


def packed_batch(lengths: Sequence[int], *, max_seqlen: int | None = None) -> PackedBatch:
    """Random tokens in sequences of these lengths."""
    sizes = torch.tensor(lengths)
    return PackedBatch(
        tokens=torch.randint(VOCAB_SIZE, (sum(lengths),)),
        cu_seqlens=torch.cat((torch.zeros(1), sizes.cumsum(0))).to(torch.int32),
        max_seqlen=max_seqlen or max(lengths),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
    )
