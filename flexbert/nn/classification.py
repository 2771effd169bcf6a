"""Heads that classify sequences or tokens, and the model around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from flexbert.config.model import ModelConfig, Pooling
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.checks import check_positive, check_probability
from flexbert.nn.encoder import Encoder
from flexbert.nn.head import Transform, TransformedHeadConfig
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.pooling import pool


@dataclass(frozen=True, kw_only=True)
class ClassificationHeadConfig(TransformedHeadConfig):
    """Dense, activation, norm, dropout, and a linear classifier with bias.

    Args:
        num_labels: logits of each sequence, or token.
        dropout: before the classifier.
    """

    num_labels: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("num_labels", self.num_labels)
        check_probability("dropout", self.dropout)

    def build(self, model: ModelConfig) -> ClassificationHead:
        return ClassificationHead(self, model)


@register("token_classification")
@dataclass(frozen=True, kw_only=True)
class TokenClassificationConfig(ClassificationHeadConfig):
    """Logits for every token."""

    task: ClassVar[str] = "token_classification"


@register("sequence_classification")
@dataclass(frozen=True, kw_only=True)
class SequenceClassificationConfig(ClassificationHeadConfig):
    """Logits for every sequence.

    Args:
        pooling: which vector stands for it.
    """

    task: ClassVar[str] = "sequence_classification"
    per_token: ClassVar[bool] = False

    pooling: Pooling = "cls"

    @property
    def pooled(self) -> Pooling:
        return self.pooling


@register("multiple_choice")
@dataclass(frozen=True, kw_only=True)
class MultipleChoiceConfig(SequenceClassificationConfig):
    """One score for every choice, each a sequence of its own."""

    task: ClassVar[str] = "multiple_choice"
    per_choice: ClassVar[bool] = True

    num_labels: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_labels != 1:
            raise ConfigError("num_labels", f"a choice has one score, got {self.num_labels}")


class ClassificationHead(Transform):
    def __init__(self, config: ClassificationHeadConfig, model: ModelConfig) -> None:
        super().__init__(config, model.hidden_size, model.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(model.hidden_size, config.num_labels)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[..., C]`` to ``[..., num_labels]``."""
        return self.classifier(self.dropout(super().forward(hidden)))


class Classifier(nn.Module):
    """An encoder with one of the heads above, or any other that predicts no masked tokens."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.pooling = model.head.pooled
        self.per_token = model.head.per_token
        self.encoder = Encoder(model)
        self.head = model.head.build(model)

    def forward(self, packed: PackedBatch) -> Tensor:
        """Logits ``[S, num_labels]`` of sequences, or ``[N, num_labels]`` of tokens."""
        hidden = self.encoder(packed)
        if self.pooling is not None:
            return self.head(pool(hidden, packed, self.pooling))
        return self.head(hidden) if self.per_token else self.head(hidden, packed)
