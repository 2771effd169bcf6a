"""What a model costs, read off the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flexbert.config.model import ModelConfig
from flexbert.nn.layer_plan import layer_plan
from flexbert.nn.masked_lm import MaskedLM
from flexbert.recipe.flops import ModelCost


def model_cost(model: MaskedLM, config: ModelConfig) -> ModelCost:
    """That of a model on any device.

    Matrices alone are counted: neither biases and norms nor tables that are looked up in.
    """
    of_head = {decoder_matrix(model, config.hidden_size), *_matrices(model.head)}
    return ModelCost(
        encoder_matrices=sum(matrix.numel() for matrix in _matrices(model.encoder.layers)),
        head_matrices=sum(matrix.numel() for matrix in of_head),
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
