"""Tables and linear layers that an initialiser has to tell from the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flexbert.nn.logits import DeferredLogits, product_dtype


def embedding_table(num_rows: int, size: int) -> nn.Embedding:
    """An embedding without values: the recipe's init gives them.

    ``nn.Embedding(num_rows, size)`` would draw some that are replaced, and drawing them on the meta
    device imports torch._dynamo, 3 seconds.
    """
    return nn.Embedding.from_pretrained(torch.empty(num_rows, size), freeze=False)


class OutputProjection(nn.Linear):
    """A linear layer that writes into the residual stream."""


class Decoder(nn.Module):
    """Logits over the vocabulary, from a matrix of its own or, when tied, from the embedding's.

    A tied decoder does not hold the matrix, so it appears once among the parameters.
    """

    def __init__(self, vocab_size: int, size: int, *, tied: bool, bias: bool) -> None:
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, size))
        self.bias = nn.Parameter(torch.empty(vocab_size)) if bias else None

    def forward(self, features: Tensor, token_matrix: Tensor) -> DeferredLogits:
        """``[M, E]`` and the token matrix ``[V, E]`` to logits ``[M, V]``, not computed yet."""
        matrix = token_matrix if self.weight is None else self.weight
        return DeferredLogits(features, matrix, self.bias, product_dtype(features))
