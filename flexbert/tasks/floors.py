"""What a model has to beat on a task: what is most frequent, and TF-IDF with a linear model.

Both are deterministic, and bounded in time and memory whatever the task's size; what was left out
for that stands in a floor's settings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexbert.config.training import IGNORE
from flexbert.errors import UserError
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.results import MAJORITY


@dataclass(frozen=True, kw_only=True)
class TextExamples:
    """Texts, or pairs of them, with classes or numbers.

    Attributes:
        second: the other text of each pair; None for texts alone.
        labels: int or float ``[n]``.
    """

    first: Sequence[str]
    second: Sequence[str] | None = None
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class WordExamples:
    """Sequences of words with a class each, or ``IGNORE``."""

    words: Sequence[Sequence[str]]
    labels: Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class ChoiceExamples:
    """Texts with choices, and the index of the right one ``[n]``."""

    texts: Sequence[str]
    choices: Sequence[Sequence[str]]
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AnswerExamples:
    """Questions about contexts, with the right answers of each; none where it has no answer."""

    questions: Sequence[str]
    contexts: Sequence[str]
    answers: Sequence[Sequence[str]]


FloorExamples = TextExamples | WordExamples | ChoiceExamples | AnswerExamples


@dataclass(frozen=True, kw_only=True)
class Floor:
    """
    Attributes:
        model: its row in tables.
        splits: its predictions by split, the training split's not among them.
        settings: what it was made with.
    """

    model: str
    splits: Mapping[str, SplitPredictions]
    settings: Mapping[str, str | int | float]


def majority_floor(train: FloorExamples, others: Mapping[str, FloorExamples]) -> Floor:
    """What is most frequent in training: the class, the index of a choice, the mean of numbers.

    Of words the class that each has most often, and the most frequent of all for those that are
    new. Of questions the first sentence of the context, or no answer where most have none. Of
    equals the lowest.

    Args:
        others: the splits to predict, of the same kind.
    """
    predict, what = _majority(train)
    splits = {name: with_labels(examples, predict(examples)) for name, examples in others.items()}
    return Floor(model=MAJORITY, splits=splits, settings={"prediction": what})


def with_labels(
    examples: FloorExamples, predictions: Sequence[object] | np.ndarray
) -> SplitPredictions:
    """Predictions of a split as they are kept: of labelled words alone, end to end.

    Args:
        predictions: one an example; of words one for each, labelled or not, end to end.
    """
    given = np.asarray(predictions)
    if isinstance(examples, WordExamples):
        labels = np.array(_flat(examples.labels), np.int64)
        counts = [sum(label != IGNORE for label in each) for each in examples.labels]
        kept = labels != IGNORE
        return SplitPredictions(
            predictions=given[kept], labels=labels[kept], lengths=np.array(counts, np.int64)
        )
    if isinstance(examples, AnswerExamples):
        return SplitPredictions(
            predictions=given.astype(str),
            labels=np.array(_flat(examples.answers), dtype=str),
            lengths=np.array(list(map(len, examples.answers)), np.int64),
        )
    return SplitPredictions(predictions=given, labels=np.asarray(examples.labels))


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question and exclamation marks; itself if it is empty."""
    return re.split(r"(?<=[.!?])\s+", text.strip())


def most_frequent(labels: Iterable[int]) -> int:
    """Raises: UserError if there is none."""
    counts = Counter(labels)
    if not counts:
        raise UserError("the training split has no labels")
    return min(counts, key=lambda label: (-counts[label], label))


def _majority(train: FloorExamples) -> tuple[Callable[[FloorExamples], Sequence[object]], str]:
    """What predicts one thing an example, or a word, and what that is."""
    if isinstance(train, WordExamples):
        by_word = _classes_by_word(train)
        rest = most_frequent(label for label in _flat(train.labels) if label != IGNORE)

        def of_words(examples: FloorExamples) -> Sequence[object]:
            assert isinstance(examples, WordExamples)
            return [by_word.get(word, rest) for word in _flat(examples.words)]

        return of_words, "the word's most frequent class"
    if isinstance(train, AnswerExamples):
        without = 2 * sum(not answers for answers in train.answers) > len(train.answers)

        def of_questions(examples: FloorExamples) -> Sequence[object]:
            assert isinstance(examples, AnswerExamples)
            return ["" if without else sentences(context)[0] for context in examples.contexts]

        return of_questions, "no answer" if without else "the context's first sentence"
    labels = np.asarray(train.labels)
    if not len(labels):
        raise UserError("the training split has no labels")
    is_number = np.issubdtype(labels.dtype, np.floating)
    label = float(labels.mean()) if is_number else most_frequent(labels.tolist())

    def of_others(examples: FloorExamples) -> Sequence[object]:
        assert not isinstance(examples, WordExamples | AnswerExamples)
        return [label] * len(examples.labels)

    return of_others, f"mean {label:g}" if is_number else f"label {label}"


def _classes_by_word(train: WordExamples) -> dict[str, int]:
    labels: dict[str, list[int]] = {}
    for word, label in zip(_flat(train.words), _flat(train.labels), strict=True):
        if label != IGNORE:
            labels.setdefault(word, []).append(label)
    return {word: most_frequent(own) for word, own in labels.items()}


def _flat(nested: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for items in nested for item in items]
