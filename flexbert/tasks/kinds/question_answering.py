"""A part of a text that answers a question, or that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from flexbert.config.fields import FUNCTION, key
from flexbert.config.registry import register
from flexbert.errors import UserError, shown
from flexbert.tasks.answer_windows import Answer, best_answer, encode_windows
from flexbert.tasks.encoded_split import EncodedSplit, LabelsOf
from flexbert.tasks.encoded_texts import EncodedTexts, TextEncoder
from flexbert.tasks.kinds.kind import Examples, TaskKind, side_by_side, text_in, value_in
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.tables import Table

# The one class there is, where training rows have it.
NO_ANSWER = "no answer"


@register("question_answering")
@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(TaskKind):
    """The part of a context that answers a question (SQuAD, Rajpurkar et al. 2016).

    A column of answers holds a text, a list of texts, or nothing where there is no answer; that of
    starts as many numbers. ``a.b`` is what column ``a`` holds under ``b``. Training takes the first
    answer, metrics take the nearest one.

    Where a training row has no answer (SQuAD 2.0, Rajpurkar et al. 2018) that can be predicted too:
    it is wherever [CLS] scores higher than the best span, by a threshold of 0. Otherwise there is
    always an answer.

    Attributes:
        question: the column of the question.
        context: that of the text with the answer.
        answers: that of the right answers, as they stand in the context.
        starts: that of their first characters in it, from 0.
        stride: tokens of the context that its windows overlap by where it is longer than fits.
        max_answer_length: of an answer that is predicted.
    """

    head: ClassVar[str] = "question_answering"
    labels_of: ClassVar[LabelsOf] = "sequences"

    question: str = key(FUNCTION, default="question")
    context: str = key(FUNCTION, default="context")
    answers: str = key(FUNCTION, default="answers.text")
    starts: str = key(FUNCTION, default="answers.answer_start")
    stride: int = key(FUNCTION, default=128, at_least=0, unit="tokens")
    max_answer_length: int = key(FUNCTION, default=30, above=0, unit="tokens")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.question, self.context, self.answers, self.starts)

    def names_in(self, table: Table) -> tuple[str, ...]:
        rows = range(len(table.rows))
        return () if all(self._answers(table, index) for index in rows) else (NO_ANSWER,)

    def examples(self, table: Table, names: tuple[str, ...]) -> Examples:
        count = range(len(table.rows))
        return Examples(
            first=[text_in(table, index, self.question) for index in count],
            second=[text_in(table, index, self.context) for index in count],
            labels=[self._answers(table, index) for index in count],
            names=names,
        )

    def _answers(self, table: Table, index: int) -> list[Answer]:
        place = table.place(index)
        texts = _listed(value_in(table, index, self.answers))
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"{place}: {self.answers}: expected a text, a list of them, or nothing")
        if not any(texts):
            return []
        starts = [_whole(each) for each in _listed(value_in(table, index, self.starts))]
        if len(starts) != len(texts):
            raise UserError(f"{place}: {len(texts)} answers and {len(starts)} starts")
        context = text_in(table, index, self.context)
        for text, start in zip(texts, starts, strict=True):
            if start is None:
                raise UserError(f"{place}: {self.starts}: expected whole numbers from 0")
            if context[start : start + len(text)] != text:
                found = context.find(text)
                where = f"but at {found}" if found >= 0 else "nor anywhere else in it"
                raise UserError(
                    f"{place}: the answer {shown(repr(text), 80)} does not stand at character "
                    f"{start} of {self.context}, {where}"
                )
        return [
            Answer(text=text, start=start)
            for text, start in zip(texts, starts, strict=True)
            if text and start is not None
        ]

    def num_outputs(self, names: Sequence[str]) -> int:
        return 2

    def encode(self, encoder: TextEncoder, examples: Examples, some: slice) -> EncodedTexts:
        questions: Any = examples.first
        assert examples.second is not None
        return encode_windows(
            encoder, questions[some], examples.second[some], examples.labels[some], self.stride
        )

    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        assert rows is not None
        both = F.cross_entropy(side_by_side(logits, rows), labels, reduction="none")
        return both.mean(dim=1)

    def predictions(self, split: EncodedSplit, scores: Sequence[np.ndarray]) -> SplitPredictions:
        windows = split.windows
        assert windows is not None
        predicted: list[str] = []
        values: list[tuple[float, float]] = []
        for example, own in enumerate(scores):
            borders = split.borders[split.firsts[example] : split.firsts[example + 1] + 1]
            text, best, none = best_answer(
                own,
                windows.offsets[borders[0] : borders[-1]],
                (borders - borders[0]).tolist(),
                windows.contexts[example],
                self.max_answer_length,
            )
            predicted.append("" if windows.may_have_none and none > best else text)
            values.append((best, none))
        return SplitPredictions(
            predictions=np.array(predicted, dtype=str),
            labels=np.array([text for texts in windows.answers for text in texts], dtype=str),
            lengths=np.array([len(texts) for texts in windows.answers], np.int64),
            scores=np.array(values, np.float32).reshape(-1, 2),
        )


def _listed(value: Any) -> list[Any]:
    """A column's value as a list; a CSV file has an empty text where there is nothing."""
    if isinstance(value, list):
        return value
    return [] if value is None or value == "" else [value]


def _whole(value: Any) -> int | None:
    """A whole number from 0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number >= 0 and number.is_integer() else None
