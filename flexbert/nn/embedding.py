"""From tokens to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flexbert.config.fields import COMPUTATION, FUNCTION, key
from flexbert.config.model import AbsolutePositionConfig, EmbeddingConfig, NormConfig
from flexbert.config.registry import register
from flexbert.errors import config_errors_under
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.projection import embedding_table


@register("token")
@dataclass(frozen=True, kw_only=True)
class TokenEmbeddingConfig(EmbeddingConfig):
    """Token embeddings, and what is added to them.

    Attributes:
        positions: absolute positions; null leaves position to attention.
        token_types: how many types of tokens there are, each with a learned vector (Devlin et
            al. 2019). Pretraining data is all of the first; 0 is no such vectors.
        size: width of the embeddings, projected to hidden_size after the norm (ALBERT, Lan et al.
            2020); hidden_size when null.
        norm: on the sum; null is none.
        dropout: on the result.
    """

    positions: AbsolutePositionConfig | None = key(FUNCTION, default=None)
    token_types: int = key(FUNCTION, default=0, at_least=0)
    size: int | None = key(FUNCTION, default=None, above=0)
    norm: NormConfig | None = key(FUNCTION, default=None)
    dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)

    @property
    def max_length(self) -> int | None:
        return self.positions.max_length if self.positions else None

    @property
    def knows_positions(self) -> bool:
        return self.positions is not None

    def matrix_size(self, hidden_size: int) -> int:
        return self.size or hidden_size

    def check(self, hidden_size: int) -> None:
        if self.positions is not None:
            with config_errors_under("positions"):
                self.positions.check(self.matrix_size(hidden_size))

    def build(self, vocab_size: int, hidden_size: int) -> TokenEmbedding:
        return TokenEmbedding(self, vocab_size, hidden_size)


class TokenEmbedding(nn.Module):
    def __init__(self, config: TokenEmbeddingConfig, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        size = config.matrix_size(hidden_size)
        self.max_length = config.max_length
        self.tokens = embedding_table(vocab_size, size)
        self.positions = config.positions.build(size) if config.positions else None
        self.token_types = embedding_table(config.token_types, size) if config.token_types else None
        self.norm = config.norm.build(size) if config.norm else nn.Identity()
        self.projection = nn.Linear(size, hidden_size) if config.size else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, packed: PackedBatch) -> Tensor:
        """A packed batch to ``[N, C]``.

        Raises:
            ValueError: if the batch may hold a document longer than there are positions, or tells
                types apart that have no vectors.
        """
        if self.max_length is not None and packed.max_seqlen > self.max_length:
            raise ValueError(
                f"a document may have {packed.max_seqlen} tokens, and there are positions for "
                f"{self.max_length}"
            )
        hidden = self.tokens(packed.tokens)
        if self.positions is not None:
            hidden = hidden + self.positions(packed.position_ids).to(hidden.dtype)
        if self.token_types is not None:
            types = packed.token_types
            hidden = hidden + (
                self.token_types.weight[0] if types is None else self.token_types(types)
            )
        elif packed.token_types is not None:
            raise ValueError("token types given to a model that has none")
        return self.dropout(self.projection(self.norm(hidden)))
