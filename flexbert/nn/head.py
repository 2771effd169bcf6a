"""Masked-LM heads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from flexbert.config.model import HeadConfig, ModelConfig, NormConfig
from flexbert.config.registry import register
from flexbert.nn.activations import ACTIVATIONS, check_activation
from flexbert.nn.projection import Decoder


@register("mlm")
@dataclass(frozen=True, kw_only=True)
class MLMHeadConfig(HeadConfig):
    """BERT's head (Devlin et al. 2019): dense, activation, norm, decoder.

    Args:
        bias: whether the dense layer has one.
        tied: whether the decoder's matrix is the token embedding's.
        decoder_bias: whether the decoder has a bias of its own.
    """

    norm: NormConfig
    activation: str = "gelu"
    bias: bool = False
    tied: bool = True
    decoder_bias: bool = True

    def __post_init__(self) -> None:
        check_activation("activation", self.activation)

    def build(self, model: ModelConfig) -> MLMHead:
        return MLMHead(self, model)


class MLMHead(nn.Module):
    def __init__(self, config: MLMHeadConfig, model: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(model.hidden_size, model.hidden_size, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = config.norm.build(model.hidden_size)
        self.decoder = Decoder(
            model.vocab_size, model.hidden_size, tied=config.tied, bias=config.decoder_bias
        )

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """``[M, C]`` and the embedding matrix ``[V, C]`` to logits ``[M, V]``."""
        return self.decoder(self.norm(self.activation(self.dense(hidden))), embedding)
