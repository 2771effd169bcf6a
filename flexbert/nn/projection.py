"""Linear layers that an initialiser has to tell from the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OutputProjection(nn.Linear):
    """A linear layer that writes into the residual stream."""


class Decoder(nn.Module):
    """Logits over the vocabulary, from a matrix of its own or, when tied, from the embedding's.

    A tied decoder does not hold the matrix, so it appears once among the parameters.
    """

    def __init__(self, vocab_size: int, hidden_size: int, *, tied: bool, bias: bool) -> None:
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(vocab_size)) if bias else None

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """``[M, C]`` and the embedding matrix ``[V, C]`` to logits ``[M, V]``."""
        return F.linear(hidden, embedding if self.weight is None else self.weight, self.bias)
