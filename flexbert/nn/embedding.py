"""From tokens to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flexbert.config.model import EmbeddingConfig, NormConfig
from flexbert.config.registry import register
from flexbert.nn.checks import check_probability
from flexbert.nn.ragged import RaggedBatch


@register("token")
@dataclass(frozen=True, kw_only=True)
class TokenEmbeddingConfig(EmbeddingConfig):
    """Token embeddings alone: position is left to attention."""

    norm: NormConfig | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_probability("dropout", self.dropout)

    def build(self, vocab_size: int, hidden_size: int) -> TokenEmbedding:
        return TokenEmbedding(self, vocab_size, hidden_size)


class TokenEmbedding(nn.Module):
    def __init__(self, config: TokenEmbeddingConfig, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        # Not nn.Embedding(V, C): its random values would be replaced, and drawing them on the meta
        # device imports torch._dynamo, 3 seconds.
        self.tokens = nn.Embedding.from_pretrained(
            torch.empty(vocab_size, hidden_size), freeze=False
        )
        self.norm = config.norm.build(hidden_size) if config.norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ragged: RaggedBatch) -> Tensor:
        return self.dropout(self.norm(self.tokens(ragged.tokens)))
