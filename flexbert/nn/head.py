"""The masked-LM head, and the transformation that heads share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from flexbert.config.model import MASKED_LM, HeadConfig, ModelConfig, NormConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.activations import ACTIVATIONS, check_activation
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.projection import Decoder


@dataclass(frozen=True, kw_only=True)
class TransformedHeadConfig(HeadConfig):
    """A head that first transforms hidden states; each of the three parts may be left out.

    Args:
        dense: whether there is a matrix first.
        bias: whether that has one.
        activation: after the matrix; None for none.
        norm: after the activation; None for none.
    """

    shared_fields: ClassVar[tuple[str, ...]] = ("dense", "bias", "activation", "norm")
    shared_modules: ClassVar[tuple[str, ...]] = ("dense", "norm")

    dense: bool = True
    bias: bool = False
    activation: str | None = "gelu"
    norm: NormConfig | None

    def __post_init__(self) -> None:
        if self.activation is not None:
            check_activation("activation", self.activation)
        if self.bias and not self.dense:
            raise ConfigError("bias", "is that of the dense layer, and dense is false")


class Transform(nn.Module):
    """``norm(activation(dense(x)))``, ``[..., C]`` to ``[..., size]``."""

    def __init__(self, config: TransformedHeadConfig, hidden_size: int, size: int) -> None:
        super().__init__()
        self.dense = (
            nn.Linear(hidden_size, size, bias=config.bias) if config.dense else nn.Identity()
        )
        self.activation = ACTIVATIONS[config.activation or "identity"]
        self.norm = config.norm.build(size) if config.norm else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(hidden)))


@register("mlm")
@dataclass(frozen=True, kw_only=True)
class MLMHeadConfig(TransformedHeadConfig):
    """BERT's head (Devlin et al. 2019): dense, activation, norm, decoder.

    Args:
        tied: whether the decoder's matrix is the token embedding's.
        decoder_bias: whether the decoder has a bias of its own.
    """

    task: ClassVar[str] = MASKED_LM

    tied: bool = True
    decoder_bias: bool = True

    def check(self, model: ModelConfig) -> None:
        width = model.embedding.matrix_size(model.hidden_size)
        if self.tied and not self.dense and width != model.hidden_size:
            raise ConfigError(
                "dense",
                f"is needed to tie the decoder to embeddings of size {width}, hidden_size is "
                f"{model.hidden_size}",
            )

    def build(self, model: ModelConfig) -> MLMHead:
        return MLMHead(self, model)


class MLMHead(Transform):
    """A transform, which is what calling it does, and a decoder."""

    def __init__(self, config: MLMHeadConfig, model: ModelConfig) -> None:
        size = model.embedding.matrix_size(model.hidden_size) if config.tied else model.hidden_size
        super().__init__(config, model.hidden_size, size)
        self.decoder = Decoder(model.vocab_size, size, tied=config.tied, bias=config.decoder_bias)

    def logits(self, hidden: Tensor, token_matrix: Tensor) -> DeferredLogits:
        """``[M, C]`` and the token matrix ``[V, E]`` to logits ``[M, V]``, not computed yet."""
        return self.decoder(self(hidden), token_matrix)
