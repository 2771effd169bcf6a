"""The matrices that tokens pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flexbert.nn.masked_lm import MaskedLM


class MatrixSizes(NamedTuple):
    """Weights in matrices: biases and norms are left out, and tables that are looked up in.

    Attributes:
        encoder: those of the layers, which every token passes.
        head: those that masked tokens pass, the decoder's among them.
    """

    encoder: int
    head: int


def matrix_sizes(model: MaskedLM, hidden_size: int) -> MatrixSizes:
    """Those of a model on any device, compiled or not."""
    of_head = {decoder_matrix(model, hidden_size), *_matrices(model.head)}
    return MatrixSizes(
        encoder=sum(matrix.numel() for matrix in _matrices(model.encoder.layers)),
        head=sum(matrix.numel() for matrix in of_head),
    )


@torch.no_grad()
def decoder_matrix(model: MaskedLM, hidden_size: int) -> Tensor:
    """What logits are a product with, ``[V, E]``; of the head or, when tied, the embedding's."""
    token_matrix = model.encoder.token_matrix
    no_tokens = token_matrix.new_empty(0, hidden_size)
    matrix: Tensor = model.head.logits(no_tokens, token_matrix).matrix
    return matrix


def _matrices(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.ndim >= 2]
