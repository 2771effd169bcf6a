"""Metrics by name, over what was predicted for a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from flexbert.checkpoint.run_metric import lower_is_better
from flexbert.errors import UserError, did_you_mean
from flexbert.tasks import label_metrics
from flexbert.tasks.answers import answer_f1, exact_match
from flexbert.tasks.entities import entities, require_entity_labels
from flexbert.tasks.predictions_file import SplitPredictions

# The score of those examples whose indices are given [m], one perhaps several times.
Scorer = Callable[[np.ndarray], float]
_Make = Callable[[SplitPredictions, Sequence[str]], Scorer]


def score(
    metrics: Sequence[str], kind: str, split: SplitPredictions, label_names: Sequence[str] = ()
) -> dict[str, float]:
    """Metrics of a split by name, 1 at best but for ``mse``.

    Accuracy and F1 of tokens are over labelled words, ``entity_f1`` is over entities
    (:func:`flexbert.tasks.entities.entities`), those of answers are as SQuAD defines them. ``f1``
    of classes is that of label 1. Where one is not defined: :mod:`flexbert.tasks.label_metrics`.

    Args:
        kind: of the task, one of :data:`METRICS`.
        label_names: of the classes, by index.

    Raises:
        UserError: as :func:`require_metrics`.
    """
    require_metrics(kind, metrics, label_names)
    everything = np.arange(split.num_examples)
    return {name: METRICS[kind][name](split, label_names)(everything) for name in metrics}


def scorer(
    metric: str, kind: str, split: SplitPredictions, label_names: Sequence[str] = ()
) -> Scorer:
    """The metric as a function of examples, so that it can be computed of many samples of them.

    Raises:
        UserError: as :func:`require_metrics`.
    """
    require_metrics(kind, [metric], label_names)
    return METRICS[kind][metric](split, label_names)


def require_metrics(kind: str, metrics: Sequence[str], label_names: Sequence[str] = ()) -> None:
    """Refuse what cannot be computed, before anything is.

    Args:
        label_names: of the classes, where they are known.

    Raises:
        UserError: for a kind of task or a metric that is unknown, for one that does not go with the
            kind, or with its labels.
    """
    if kind not in METRICS:
        raise UserError(f"unknown kind of task {kind!r}; {did_you_mean(kind, METRICS)}")
    for name in metrics:
        if name not in METRICS[kind]:
            others = [other for other, known in METRICS.items() if name in known]
            why = f"goes with {', '.join(others)}, not with {kind}" if others else "is unknown"
            raise UserError(f"metric {name!r} {why}; {did_you_mean(name, METRICS[kind])}")
        if name == "f1" and kind == "classification" and len(label_names) not in (0, 2):
            raise UserError(
                f"metric 'f1' is of two classes, and there are {len(label_names)}; take f1_macro"
            )
        if name == "entity_f1":
            require_entity_labels(label_names)


def higher_is_better(metric: str) -> bool:
    """Whether more of it is better: of every metric but an error or a loss."""
    return not lower_is_better(metric)


def goodness(metric: str, value: float) -> float:
    """A value of a metric as a number of which more is better; what is not finite is the worst."""
    if not math.isfinite(value):
        return -math.inf
    return value if higher_is_better(metric) else -value


def _of_arrays(measure: Callable[[np.ndarray, np.ndarray], float]) -> _Make:
    def make(split: SplitPredictions, label_names: Sequence[str]) -> Scorer:
        return lambda examples: measure(split.predictions[examples], split.labels[examples])

    return make


def _of_numbers(measure: Callable[[np.ndarray, np.ndarray], float]) -> _Make:
    def make(split: SplitPredictions, label_names: Sequence[str]) -> Scorer:
        given, right = split.predictions.astype(np.float64), split.labels.astype(np.float64)
        return lambda examples: measure(given[examples], right[examples])

    return make


def _of_confusion(measure: Callable[[np.ndarray], float]) -> _Make:
    return _of_arrays(
        lambda predictions, labels: (
            measure(label_metrics.confusion(predictions, labels)) if len(labels) else math.nan
        )
    )


def _f1_of_label_1(predictions: np.ndarray, labels: np.ndarray) -> float:
    if not len(labels):
        return math.nan
    given, right = predictions == 1, labels == 1
    return label_metrics.f1_from_counts((given & right).sum(), given.sum(), right.sum())


def _word_accuracy(split: SplitPredictions, label_names: Sequence[str]) -> Scorer:
    owners, num_words = _words(split)
    hits = np.bincount(owners, split.predictions == split.labels, len(num_words))
    return lambda examples: _ratio(hits[examples].sum(), num_words[examples].sum())


def _word_macro_f1(split: SplitPredictions, label_names: Sequence[str]) -> Scorer:
    # Of each class and example: predicted and right, and predicted or labelled counted twice.
    owners, num_words = _words(split)
    size = 1 + int(max(split.predictions.max(initial=0), split.labels.max(initial=0)))
    shape = (len(num_words), size)
    both, sums = np.zeros(shape), np.zeros(shape)
    is_right = split.predictions == split.labels
    np.add.at(both, (owners[is_right], split.labels[is_right]), 1)
    np.add.at(sums, (owners, split.labels), 1)
    np.add.at(sums, (owners, split.predictions), 1)

    def found(examples: np.ndarray) -> float:
        right, total = both[examples].sum(0), sums[examples].sum(0)
        there = total > 0
        return float((2 * right[there] / total[there]).mean()) if there.any() else math.nan

    return found


def _entity_f1(split: SplitPredictions, label_names: Sequence[str]) -> Scorer:
    names = np.array(label_names, dtype=object)
    _, num_words = _words(split)
    counts = np.zeros((len(num_words), 3))
    ends = np.cumsum(num_words)
    for example, (end, length) in enumerate(zip(ends, num_words, strict=True)):
        given = entities(names[split.predictions[end - length : end]])
        right = entities(names[split.labels[end - length : end]])
        counts[example] = len(given & right), len(given), len(right)

    def found(examples: np.ndarray) -> float:
        if not len(examples):
            return math.nan
        return label_metrics.f1_from_counts(*counts[examples].sum(0).tolist())

    return found


def _of_answers(measure: Callable[[str, Sequence[str]], float]) -> _Make:
    def make(split: SplitPredictions, label_names: Sequence[str]) -> Scorer:
        _, num_answers = _words(split)
        ends = np.cumsum(num_answers)
        values = np.array(
            [
                measure(prediction, split.labels[end - length : end].tolist())
                for prediction, end, length in zip(
                    split.predictions.tolist(), ends, num_answers, strict=True
                )
            ]
        )
        return lambda examples: float(values[examples].mean()) if len(examples) else math.nan

    return make


def _words(split: SplitPredictions) -> tuple[np.ndarray, np.ndarray]:
    """The example of each label ``[words]``, and how many each has ``[n]``."""
    lengths = np.ones(len(split.labels), np.int64) if split.lengths is None else split.lengths
    return np.repeat(np.arange(len(lengths)), lengths), lengths


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


# By kind of task; the names of its metrics are the keys.
METRICS: dict[str, dict[str, _Make]] = {
    "classification": {
        "accuracy": _of_arrays(label_metrics.accuracy),
        "f1": _of_arrays(_f1_of_label_1),
        "f1_macro": _of_confusion(label_metrics.macro_f1),
        "mcc": _of_confusion(label_metrics.matthews),
    },
    "regression": {
        "pearson": _of_numbers(label_metrics.pearson),
        "spearman": _of_numbers(label_metrics.spearman),
        "mse": _of_numbers(label_metrics.mean_squared_error),
    },
    "token_classification": {
        "accuracy": _word_accuracy,
        "f1_macro": _word_macro_f1,
        "entity_f1": _entity_f1,
    },
    "multiple_choice": {"accuracy": _of_arrays(label_metrics.accuracy)},
    "question_answering": {
        "exact_match": _of_answers(exact_match),
        "f1": _of_answers(answer_f1),
    },
}
