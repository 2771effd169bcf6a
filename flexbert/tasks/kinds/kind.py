"""What a kind of task is: columns, labels, a head, a loss.

Shape legend: E examples, S sequences (several of one example where it has choices), N tokens,
W words, K classes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flexbert.config.registry import Component
from flexbert.errors import UserError, did_you_mean, shown
from flexbert.tasks.encoded_split import EncodedSplit, LabelsOf
from flexbert.tasks.encoded_texts import EncodedTexts, TextEncoder, encode_texts
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.tables import Table, TaskRow

_MOST_LISTED = 12


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A split's examples, still as text.

    Attributes:
        first: of each sequence ``[S]``, a text, or the words of one.
        second: the other text of each sequence where they are pairs.
        labels: of each example ``[E]``: a class, a number, the right choice, the class of every
            word, or its answers.
        choices: how many sequences each example has ``[E]``; None is one.
        names: of the classes.
    """

    first: Sequence[str] | Sequence[Sequence[str]]
    second: Sequence[str] | None = None
    labels: Sequence[Any]
    choices: Sequence[int] | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


class TaskKind(Component, ABC, family="task"):
    """What every kind of task has.

    Attributes:
        head: the name of the head that predicts it.
        labels_of: what has a label.
    """

    head: ClassVar[str]
    labels_of: ClassVar[LabelsOf] = "examples"

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""

    @abstractmethod
    def names_in(self, table: Table) -> tuple[str, ...]:
        """The classes, as given or as the training rows have them; none of a number."""

    @abstractmethod
    def examples(self, table: Table, names: tuple[str, ...]) -> Examples:
        """The examples of a split.

        Raises:
            UserError: naming the first row that is none, and why.
        """

    @abstractmethod
    def num_outputs(self, names: Sequence[str]) -> int:
        """Logits of each sequence, or token."""

    def encode(self, encoder: TextEncoder, examples: Examples, some: slice) -> EncodedTexts:
        """Some sequences of a split in tokens."""
        second = examples.second
        return encode_texts(
            encoder,
            examples.first[some],  # type: ignore[arg-type]
            None if second is None else second[some],
        )

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        """What is averaged over a batch ``[I]``: of each example, labelled token, or window.

        Args:
            logits: ``[R, num_outputs]``, of sequences or tokens.
            labels: ``[I]``, of windows ``[I, 2]``.
            rows: how many rows of logits each label goes with ``[I]``; None is one.
        """

    @abstractmethod
    def predictions(self, split: EncodedSplit, scores: Sequence[np.ndarray]) -> SplitPredictions:
        """What the logits of a split's examples predict, and what is right.

        Args:
            scores: of each example ``[rows, num_outputs]``.
        """

    def check_columns(self, table: Table) -> None:
        """Raises UserError if a column is missing, in any row."""
        for index, row in enumerate(table.rows):
            for column in self.columns:
                if not _has(row, column):
                    place = table.source if index == 0 else table.place(index)
                    raise UserError(f"{place}: no column {column!r}; {did_you_mean(column, row)}")


def value_in(table: Table, index: int, column: str) -> Any:
    """What a row has in a column that is there; ``a.b`` is what column ``a`` holds under ``b``."""
    row = table.rows[index]
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    return None if row[outer] is None else row[outer][inner]


def _has(row: TaskRow, column: str) -> bool:
    outer, _, inner = column.partition(".")
    if column in row or not inner or outer not in row:
        return column in row
    return row[outer] is None or (isinstance(row[outer], Mapping) and inner in row[outer])


def side_by_side(logits: Tensor, rows: Tensor) -> Tensor:
    """The rows of logits that each label goes with ``[I, R, K]``, in float32.

    Minus infinity where a label has fewer than another.

    Args:
        logits: ``[sum of rows, K]``.
        rows: ``[I]``.
    """
    is_there = torch.arange(int(rows.max()), device=logits.device) < rows[:, None]
    table = logits.new_full((*is_there.shape, logits.shape[1]), -torch.inf, dtype=torch.float32)
    return table.masked_scatter(is_there[..., None], logits.float())


def one_an_example(
    split: EncodedSplit, scores: Sequence[np.ndarray], predicted: Callable[[np.ndarray], Any]
) -> SplitPredictions:
    """Predictions where each example has one label.

    Args:
        predicted: what an example's logits predict: a class, a number, or the right choice.
    """
    same = len({each.shape for each in scores}) == 1
    return SplitPredictions(
        predictions=np.array([predicted(each) for each in scores]),
        labels=split.labels,
        scores=np.stack(scores).reshape(len(scores), -1) if same else None,
    )


def text_in(table: Table, index: int, column: str) -> str:
    """The text in a column; raises UserError if it is none."""
    value = value_in(table, index, column)
    if not isinstance(value, str):
        raise UserError(f"{table.place(index)}: {column}: expected a text, got {_seen(value)}")
    return value


def list_in(table: Table, index: int, column: str) -> list[Any]:
    """The list in a column; raises UserError if it is none, or empty."""
    value = value_in(table, index, column)
    if not isinstance(value, list) or not value:
        raise UserError(f"{table.place(index)}: {column}: expected a list, got {_seen(value)}")
    return value


def label_names(values: Mapping[str, None] | set[str]) -> tuple[str, ...]:
    """Names of classes in an order that no row decides: numbers by value, texts by letter."""
    if all(re.fullmatch(r"-?\d+", value) for value in values):
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    return tuple(sorted(values))


def label_in(value: Any, place: Callable[[], str]) -> str:
    """A class as a row of the training data names it; raises UserError if it is no name."""
    if not isinstance(value, str | int | bool) or value == "":
        without = "; leave rows without a label out" if value in ("", None) else ""
        raise UserError(
            f"{place()}: {_seen(value)} is no label; expected a text or a whole number{without}"
        )
    return str(value)


def class_of(
    value: Any, names: tuple[str, ...], place: Callable[[], str], *, by_number: bool
) -> int:
    """The class that a label names.

    Args:
        by_number: whether it may also be the class's number; never where names are numbers, of
            which 1 need not be the second.

    Raises:
        UserError: if it is none of them.
    """
    if isinstance(value, str | bool | int | float) and str(value) in names:
        return names.index(str(value))
    if by_number and not any(name.isdecimal() for name in names):
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, str) and value.isdecimal():
            is_number, value = True, int(value)
        if is_number and 0 <= value < len(names):
            return int(value)
    near = did_you_mean(str(value), names[:_MOST_LISTED]) if value is not None else "it has none"
    raise UserError(f"{place()}: {_seen(value)} is none of the labels; {near}")


def _seen(value: Any) -> str:
    return "null" if value is None else shown(repr(value), 80)
