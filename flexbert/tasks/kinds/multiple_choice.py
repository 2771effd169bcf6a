"""Which of several continuations fits a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from flexbert.config.fields import FUNCTION, key
from flexbert.config.registry import register
from flexbert.errors import ConfigError, UserError
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.kinds.kind import (
    Examples,
    TaskKind,
    class_of,
    list_in,
    one_an_example,
    side_by_side,
    text_in,
    value_in,
)
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.tables import Table


@register("multiple_choice")
@dataclass(frozen=True, kw_only=True)
class MultipleChoice(TaskKind):
    """The right one of an example's choices, each a sequence of its own behind the same text.

    Attributes:
        text: the column of what all choices follow.
        choices: the columns of the choices, or one column of lists of them.
        label: that of the right one's number, from 0 or as ``labels`` count.
        labels: how rows write the choices' numbers, A to D for instance; null is from 0.
    """

    head: ClassVar[str] = "multiple_choice"

    text: str = key(FUNCTION, default="text")
    choices: tuple[str, ...] = key(FUNCTION, default=("choices",))
    label: str = key(FUNCTION, default="label")
    labels: tuple[str, ...] | None = key(FUNCTION, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.choices:
            raise ConfigError("choices", "expected one column or more")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.text, *self.choices, self.label)

    def names_in(self, table: Table) -> tuple[str, ...]:
        return self.labels or ()

    def examples(self, table: Table, names: tuple[str, ...]) -> Examples:
        first: list[str] = []
        second: list[str] = []
        counts: list[int] = []
        labels: list[int] = []
        for index in range(len(table.rows)):
            choices = self._choices(table, index)

            def place(index: int = index) -> str:
                return f"{table.place(index)}: {self.label}"

            numbers = (self.labels or tuple(map(str, range(len(choices)))))[: len(choices)]
            labels.append(
                class_of(value_in(table, index, self.label), numbers, place, by_number=True)
            )
            first += [text_in(table, index, self.text)] * len(choices)
            second += choices
            counts.append(len(choices))
        return Examples(first=first, second=second, labels=labels, choices=counts, names=names)

    def _choices(self, table: Table, index: int) -> list[str]:
        if len(self.choices) > 1:
            return [text_in(table, index, column) for column in self.choices]
        (column,) = self.choices
        found = list_in(table, index, column)
        if len(found) < 2 or not all(isinstance(choice, str) for choice in found):
            raise UserError(f"{table.place(index)}: {column}: expected a list of two texts or more")
        return found

    def num_outputs(self, names: Sequence[str]) -> int:
        return 1

    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        assert rows is not None
        return F.cross_entropy(side_by_side(logits, rows)[..., 0], labels, reduction="none")

    def predictions(self, split: EncodedSplit, scores: Sequence[np.ndarray]) -> SplitPredictions:
        return one_an_example(split, scores, lambda each: int(each[:, 0].argmax()))
