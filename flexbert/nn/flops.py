"""What a model costs: the one place where its floating-point operations are counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.nn.encoder import Encoder
from flexbert.nn.masked_lm import MaskedLM

FORMULA = (
    "6 x encoder matrices + 6 x head matrices x mask rate "
    "+ 12 x heads' total size x mean keys attended, summed over layers (forward and backward)"
)


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What a model's floating-point operations follow from.

    Attributes:
        encoder_matrices: weights of the matrices that every token passes.
        head_matrices: weights of those that only masked tokens pass, a tied decoder's among them.
        attention: for every layer the size of all its heads together (the hidden size, in most
            models), and its window.
    """

    encoder_matrices: int
    head_matrices: int
    attention: tuple[tuple[int, int | None], ...]

    def flops(self, lengths: np.ndarray, mask_rate: float) -> float:
        """Of the forward and backward pass over documents of these ``lengths``, by ``FORMULA``."""
        matrices = 6 * self.encoder_matrices + 6 * self.head_matrices * mask_rate
        keys = {window: keys_attended(lengths, window) for _, window in self.attention}
        scores = 12 * sum(size * keys[window] for size, window in self.attention)
        return matrices * float(lengths.sum()) + scores

    def flops_per_token(self, lengths: np.ndarray, mask_rate: float) -> float:
        """The same, averaged over the documents' tokens."""
        return self.flops(lengths, mask_rate) / float(lengths.sum())


def keys_attended(lengths: np.ndarray, window: int | None) -> float:
    """Keys that tokens see, summed over the tokens of documents of these ``lengths``.

    In a window of w, token i of a document of length n sees those of ``[i - w/2, i + w/2]`` that
    exist: ``n (2h + 1) - h (h + 1)`` pairs for h = w/2 < n, all ``n^2`` otherwise.
    """
    n = lengths.astype(np.float64)
    if window is None:
        return float((n**2).sum())
    half = np.minimum(window // 2, n - 1)
    return float((n * (2 * half + 1) - half * (half + 1)).sum())


def model_cost(model: MaskedLM, config: ModelConfig) -> ModelCost:
    """That of a model on any device.

    Matrices alone are counted: neither biases and norms nor tables that are looked up in.
    """
    of_head = {decoder_matrix(model, config.hidden_size), *_matrices(model.head)}
    head_matrices = sum(matrix.numel() for matrix in of_head)
    return replace(encoder_cost(model.encoder, config), head_matrices=head_matrices)


def encoder_cost(encoder: Encoder, config: ModelConfig) -> ModelCost:
    """That of an encoder whose head costs next to nothing."""
    return ModelCost(
        encoder_matrices=sum(matrix.numel() for matrix in _matrices(encoder.layers)),
        head_matrices=0,
        attention=tuple((layer.attention_size, layer.window) for layer in layer_plan(config)),
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
