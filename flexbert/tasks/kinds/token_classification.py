"""A class for every word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from flexbert.config.fields import FUNCTION, key
from flexbert.config.registry import register
from flexbert.config.training import IGNORE
from flexbert.errors import UserError
from flexbert.tasks.encoded_split import EncodedSplit, LabelsOf
from flexbert.tasks.encoded_texts import EncodedTexts, TextEncoder, encode_words
from flexbert.tasks.kinds.kind import (
    Examples,
    TaskKind,
    class_of,
    label_in,
    label_names,
    list_in,
)
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.tables import Table


@register("token_classification")
@dataclass(frozen=True, kw_only=True)
class TokenClassification(TaskKind):
    """A class for every word: of its first token, the others having none.

    Attributes:
        words: the column of the words, a list of texts.
        label: that of their classes, a list as long.
        labels: the classes' names in the order of their numbers; null takes those of the training
            rows, by letter.
    """

    head: ClassVar[str] = "token_classification"
    labels_of: ClassVar[LabelsOf] = "tokens"

    words: str = key(FUNCTION, default="tokens")
    label: str = key(FUNCTION, default="labels")
    labels: tuple[str, ...] | None = key(FUNCTION, default=None)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.words, self.label)

    def names_in(self, table: Table) -> tuple[str, ...]:
        if self.labels is not None:
            return self.labels
        found = {
            label_in(value, self._place(table, index)): None
            for index in range(len(table.rows))
            for value in list_in(table, index, self.label)
        }
        return label_names(found)

    def examples(self, table: Table, names: tuple[str, ...]) -> Examples:
        words, labels = [], []
        for index in range(len(table.rows)):
            own = list_in(table, index, self.words)
            if not all(isinstance(word, str) for word in own):
                raise UserError(f"{table.place(index)}: {self.words}: expected a list of texts")
            classes = list_in(table, index, self.label)
            if len(own) != len(classes):
                raise UserError(f"{table.place(index)}: {len(own)} words and {len(classes)} labels")
            words.append(own)
            place, by_number = self._place(table, index), self.labels is not None
            labels.append([class_of(each, names, place, by_number=by_number) for each in classes])
        return Examples(first=words, labels=labels, names=names)

    def _place(self, table: Table, index: int) -> Callable[[], str]:
        return lambda: f"{table.place(index)}: {self.label}"

    def num_outputs(self, names: Sequence[str]) -> int:
        return len(names)

    def encode(self, encoder: TextEncoder, examples: Examples, some: slice) -> EncodedTexts:
        words: Any = examples.first
        return encode_words(encoder, words[some], examples.labels[some])

    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        return F.cross_entropy(logits.float(), labels, reduction="none")

    def predictions(self, split: EncodedSplit, scores: Sequence[np.ndarray]) -> SplitPredictions:
        together = np.concatenate(scores)
        return SplitPredictions(
            predictions=together.argmax(axis=-1),
            labels=split.labels[split.labels != IGNORE],
            lengths=np.array([len(each) for each in scores]),
            scores=together,
        )
