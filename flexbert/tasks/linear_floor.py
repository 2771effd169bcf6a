"""TF-IDF with logistic regression, or with ridge regression for numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexbert.config.training import IGNORE
from flexbert.tasks.floors import (
    AnswerExamples,
    ChoiceExamples,
    Floor,
    FloorExamples,
    TextExamples,
    WordExamples,
    majority_floor,
    sentences,
    with_labels,
)
from flexbert.tasks.results import TF_IDF, VALIDATION
from flexbert.tasks.scoring import goodness, score
from flexbert.tasks.word_features import word_features

MOST_EXAMPLES = 30_000
MOST_WORDS = 100_000
MOST_FEATURES = 50_000
# Of a text, in characters.
LONGEST_TEXT = 5_000
_ITERATIONS = 200
# The inverse of the penalty on squared weights; ridge, which is quick, may have a stronger one.
_STRENGTHS = (0.1, 1.0, 10.0)
_RIDGE_STRENGTHS = (0.01, *_STRENGTHS)

# Features of a split's rows, sparse ``[rows, features]``.
_Featurize = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """A task as rows of features with targets.

    Attributes:
        features: of a split of any number of examples.
        targets: of the training split's rows.
        to_predictions: from what the linear model says of a split's rows.
    """

    features: _Featurize
    train: Any
    targets: np.ndarray
    to_predictions: Callable[[Any, FloorExamples, Any], np.ndarray]
    is_number: bool = False
    settings: Mapping[str, str | int | float]


def tf_idf_floor(
    kind: str,
    train: FloorExamples,
    others: Mapping[str, FloorExamples],
    metric: str,
    label_names: Sequence[str] = (),
) -> Floor:
    """TF-IDF of words and pairs of neighbouring words, with a linear model.

    A pair of texts is both apart, their elementwise product, the absolute difference, and the
    cosine between them; of multiple choices, each with its text is such a pair. Words are by
    themselves, their neighbours, beginnings, endings and shapes. Of a question it is the sentence
    of the context that is nearest to it, and nothing is learned.

    Args:
        kind: of the task.
        others: the splits to predict, ``validation`` among them: it chooses the penalty.
        metric: what it is chosen by; numbers are by squared error, as a penalty that ranks well may
            be far off in scale.
    """
    if kind == "regression":
        metric = "mse"
    if isinstance(train, AnswerExamples):
        return _nearest_sentences(others)
    problem = _problem(train)
    if problem is None or len(set(problem.targets.tolist())) < 2:
        # Nothing to learn from: one label, or no word in any text.
        floor = majority_floor(train, others)
        return Floor(model=TF_IDF, splits=floor.splits, settings=floor.settings)
    rows = {name: problem.features(examples) for name, examples in others.items()}
    best: tuple[float, float, dict[str, np.ndarray], bool] | None = None
    for strength in _RIDGE_STRENGTHS if problem.is_number else _STRENGTHS:
        model, converged = _fit(problem, strength)
        found = {name: problem.to_predictions(model, others[name], rows[name]) for name in others}
        split = with_labels(others[VALIDATION], found[VALIDATION])
        value = score([metric], kind, split, label_names)[metric]
        if best is None or goodness(metric, value) > best[0]:
            best = goodness(metric, value), strength, found, converged
    assert best is not None
    _, strength, found, converged = best
    return Floor(
        model=TF_IDF,
        splits={name: with_labels(others[name], found[name]) for name in others},
        settings={
            **problem.settings,
            "inverse_penalty": strength,
            "features": int(problem.train.shape[1]),
            "rows": len(problem.targets),
            "converged": converged,
        },
    )


def _fit(problem: _Problem, strength: float) -> tuple[Any, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    model = (
        Ridge(alpha=1 / strength)
        if problem.is_number
        else LogisticRegression(C=strength, max_iter=_ITERATIONS)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(problem.train, problem.targets)
    return model, not any(issubclass(each.category, ConvergenceWarning) for each in caught)


def _problem(train: FloorExamples) -> _Problem | None:
    """None where there is nothing to learn from."""
    if isinstance(train, WordExamples):
        return _word_problem(train)
    assert not isinstance(train, AnswerExamples)
    settings: dict[str, str | int | float] = {"longest_text": LONGEST_TEXT}
    kept = _sample(len(train.labels), MOST_EXAMPLES)
    if len(kept) < len(train.labels):
        settings["examples_of"] = len(train.labels)
    labels = np.asarray(train.labels)[kept]
    if isinstance(train, ChoiceExamples):
        return _choice_problem(train, kept, labels, settings)
    first = [train.first[index] for index in kept]
    second = None if train.second is None else [train.second[index] for index in kept]
    vectorizer = _vectorizer(first + (second or []))
    if vectorizer is None:
        return None

    def features(examples: FloorExamples) -> Any:
        assert isinstance(examples, TextExamples)
        return _pair_features(vectorizer, examples.first, examples.second)

    is_number = np.issubdtype(labels.dtype, np.floating)
    return _Problem(
        features=features,
        train=_pair_features(vectorizer, first, second),
        targets=labels,
        to_predictions=lambda model, examples, rows: model.predict(rows),
        is_number=is_number,
        settings={"model": "ridge" if is_number else "logistic regression", **settings},
    )


def _choice_problem(
    train: ChoiceExamples,
    kept: np.ndarray,
    labels: np.ndarray,
    settings: Mapping[str, str | int | float],
) -> _Problem | None:
    sample = ChoiceExamples(
        texts=[train.texts[index] for index in kept],
        choices=[train.choices[index] for index in kept],
        labels=labels,
    )
    vectorizer = _vectorizer([*sample.texts, *(one for own in sample.choices for one in own)])
    if vectorizer is None:
        return None

    def features(examples: FloorExamples) -> Any:
        assert isinstance(examples, ChoiceExamples)
        texts = [
            text for text, own in zip(examples.texts, examples.choices, strict=True) for _ in own
        ]
        return _pair_features(vectorizer, texts, [one for own in examples.choices for one in own])

    def most_likely(model: Any, examples: FloorExamples, rows: Any) -> np.ndarray:
        assert isinstance(examples, ChoiceExamples)
        ends = np.cumsum([len(own) for own in examples.choices])
        likely = np.split(model.decision_function(rows), ends[:-1])
        return np.array([int(own.argmax()) for own in likely], np.int64)

    is_right = [
        index == label
        for label, own in zip(labels.tolist(), sample.choices, strict=True)
        for index in range(len(own))
    ]
    return _Problem(
        features=features,
        train=features(sample),
        targets=np.array(is_right, np.int64),
        to_predictions=most_likely,
        settings={"model": "logistic regression of each choice", **settings},
    )


def _word_problem(train: WordExamples) -> _Problem | None:
    def features(examples: FloorExamples) -> Any:
        assert isinstance(examples, WordExamples)
        return word_features(examples.words)

    labels = np.array([label for own in train.labels for label in own], np.int64)
    labelled = np.flatnonzero(labels != IGNORE)
    kept = labelled[_sample(len(labelled), MOST_WORDS)]
    if not len(kept):
        return None
    settings = {} if len(kept) == len(labelled) else {"words_of": len(labelled)}
    return _Problem(
        features=features,
        train=features(train)[kept],
        targets=labels[kept],
        to_predictions=lambda model, examples, rows: (
            model.predict(rows) if rows.shape[0] else np.array([], np.int64)
        ),
        settings={"model": "logistic regression of words and their neighbours", **settings},
    )


def _vectorizer(texts: Sequence[str]) -> Any:
    """None where no text has a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        max_features=MOST_FEATURES,
        sublinear_tf=True,
        token_pattern=r"(?u)\w+",
        preprocessor=_prepared,
    )
    try:
        vectorizer.fit(texts)
    except ValueError:
        return None
    return vectorizer


def _prepared(text: str) -> str:
    return text[:LONGEST_TEXT].lower()


def _pair_features(vectorizer: Any, first: Sequence[str], second: Sequence[str] | None) -> Any:
    from scipy.sparse import csr_matrix, hstack

    one = vectorizer.transform(first)
    if second is None:
        return one
    two = vectorizer.transform(second)
    product = one.multiply(two)
    # Rows have length 1, or no word.
    cosine = csr_matrix(product.sum(axis=1))
    return hstack([one, two, product, abs(one - two), cosine], format="csr")


def _nearest_sentences(others: Mapping[str, FloorExamples]) -> Floor:
    splits = {}
    for name, examples in others.items():
        assert isinstance(examples, AnswerExamples)
        nearest = [
            _nearest(question, sentences(context[:LONGEST_TEXT]))
            for question, context in zip(examples.questions, examples.contexts, strict=True)
        ]
        splits[name] = with_labels(examples, nearest)
    settings: dict[str, str | int | float] = {
        "prediction": "the sentence nearest to the question",
        "longest_text": LONGEST_TEXT,
    }
    return Floor(model=TF_IDF, splits=splits, settings=settings)


def _nearest(question: str, candidates: Sequence[str]) -> str:
    """By TF-IDF among the candidates; the first of equals."""
    vectorizer = _vectorizer([question, *candidates])
    if vectorizer is None:
        return candidates[0]
    near = vectorizer.transform(candidates) @ vectorizer.transform([question]).T
    return candidates[int(near.toarray()[:, 0].argmax())]


def _sample(count: int, most: int) -> np.ndarray:
    """At most so many indices in order, the same each time."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])
