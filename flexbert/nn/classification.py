"""Heads that classify sequences or tokens, and the model around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from flexbert.config.fields import COMPUTATION, FUNCTION, OPERATIONAL, key
from flexbert.config.model import ModelConfig, Pooling
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.encoder import Encoder
from flexbert.nn.head import Transform, TransformedHeadConfig
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.pooling import pool


@dataclass(frozen=True, kw_only=True)
class ClassificationHeadConfig(TransformedHeadConfig):
    """Dense, activation, norm, dropout, and a linear classifier with bias.

    Attributes:
        num_labels: logits of each sequence, or token.
        dropout: before the classifier.
        labels: their names, which an export keeps; null is that they have none.
    """

    num_labels: int = key(FUNCTION, above=0)
    dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)
    labels: tuple[str, ...] | None = key(OPERATIONAL, default=None, by_value=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is not None and len(set(self.labels)) != self.num_labels:
            raise ConfigError(
                "labels", f"expected {self.num_labels} names, each once, got {len(self.labels)}"
            )

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

    Attributes:
        pooling: which vector stands for it.
    """

    task: ClassVar[str] = "sequence_classification"
    per_token: ClassVar[bool] = False

    pooling: Pooling = key(FUNCTION, default="cls")

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


@register("question_answering")
@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringConfig(ClassificationHeadConfig):
    """Of every token how well an answer begins with it, and how well one ends with it."""

    task: ClassVar[str] = "question_answering"

    num_labels: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_labels != 2:
            raise ConfigError("num_labels", f"a token has two scores, got {self.num_labels}")


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
