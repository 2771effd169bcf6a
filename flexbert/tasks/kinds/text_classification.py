"""One class for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from flexbert.config.fields import FUNCTION, key
from flexbert.config.registry import register
from flexbert.errors import ConfigError, UserError
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.kinds.kind import (
    Examples,
    class_of,
    label_in,
    label_names,
    one_an_example,
    value_in,
)
from flexbert.tasks.kinds.text_kind import TextTaskKind
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.tables import Table


@register("classification")
@dataclass(frozen=True, kw_only=True)
class Classification(TextTaskKind):
    """One of several classes: a label is its name, or its number where ``labels`` are given.

    Attributes:
        labels: the classes' names in the order of their numbers; null takes those of the training
            rows, numbers by value and names by letter. ``f1`` is that of the second.
    """

    labels: tuple[str, ...] | None = key(FUNCTION, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is not None and len(set(self.labels)) != max(2, len(self.labels)):
            raise ConfigError("labels", "expected two names or more, each once")

    def names_in(self, table: Table) -> tuple[str, ...]:
        if self.labels is not None:
            return self.labels
        found: dict[str, None] = {}
        for index in range(len(table.rows)):
            found[label_in(value_in(table, index, self.label), self._place(table, index))] = None
        if len(found) < 2:
            raise UserError(
                f"{table.source}: {self.label}: one class alone ({', '.join(found)}) is nothing to "
                "predict"
            )
        return label_names(found)

    def examples(self, table: Table, names: tuple[str, ...]) -> Examples:
        first, second = self.texts(table)
        return Examples(
            first=first,
            second=second,
            labels=[
                class_of(
                    value_in(table, index, self.label),
                    names,
                    self._place(table, index),
                    by_number=self.labels is not None,
                )
                for index in range(len(table.rows))
            ],
            names=names,
        )

    def _place(self, table: Table, index: int) -> Callable[[], str]:
        return lambda: f"{table.place(index)}: {self.label}"

    def num_outputs(self, names: Sequence[str]) -> int:
        return len(names)

    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        return F.cross_entropy(logits.float(), labels, reduction="none")

    def predictions(self, split: EncodedSplit, scores: Sequence[np.ndarray]) -> SplitPredictions:
        return one_an_example(split, scores, lambda each: int(each[0].argmax()))
