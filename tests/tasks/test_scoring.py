"""Metrics by name, against scikit-learn, scipy and cases made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from flexbert.errors import UserError
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.scoring import METRICS, higher_is_better, require_metrics, score, scorer

pytestmark = pytest.mark.filterwarnings("error")

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def drawn(seed: int, classes: int, count: int = 60) -> SplitPredictions:
    """Predictions that are right more often than not."""
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(classes, size=count)
    right = numbers.random(count) < 0.6
    predictions = np.where(right, labels, numbers.integers(classes, size=count))
    return SplitPredictions(predictions=predictions, labels=labels)


def split(predictions: list[float], labels: list[float]) -> SplitPredictions:
    return SplitPredictions(predictions=np.array(predictions), labels=np.array(labels))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_metrics_of_classes_are_those_of_scikit_learn(classes: int, seed: int) -> None:
    found = drawn(seed, classes)
    given, right = found.predictions, found.labels
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(right, given),
        "f1_macro": sklearn.metrics.f1_score(right, given, average="macro"),
        "mcc": sklearn.metrics.matthews_corrcoef(right, given),
    }
    if classes == 2:
        expected["f1"] = sklearn.metrics.f1_score(right, given)
    assert score(list(expected), "classification", found) == pytest.approx(expected, abs=1e-12)


def test_macro_f1_leaves_out_classes_that_are_nowhere() -> None:
    found = split([0, 2, 2, 5], [0, 2, 0, 2])
    expected = sklearn.metrics.f1_score(found.labels, found.predictions, average="macro")
    assert score(["f1_macro"], "classification", found)["f1_macro"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e200])
def test_metrics_of_numbers_are_those_of_scipy(seed: int, scale: float) -> None:
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(0, 6, 80)  # with ties, as graded similarity has
    predictions = labels + numbers.integers(-3, 4, 80)
    found = score(["pearson", "spearman"], "regression", split(predictions * scale, labels))
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(predictions, labels)[0])
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(predictions, labels)[0])
    squares = score(["mse"], "regression", split(predictions, labels))["mse"]
    assert squares == pytest.approx(sklearn.metrics.mean_squared_error(labels, predictions))


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_a_correlation_with_a_constant_is_0(metric: str) -> None:
    for constant in ([2.0, 2.0, 2.0], [1e308] * 3, [0.0] * 3):
        assert score([metric], "regression", split(constant, [1, 2, 3])) == {metric: 0.0}
        assert score([metric], "regression", split([1, 2, 3], constant)) == {metric: 0.0}
    assert score([metric], "regression", split([1.0], [2.0])) == {metric: 0.0}


def test_one_prediction_for_all_has_no_f1_and_no_mcc() -> None:
    found = split([0, 0, 0, 0], [0, 1, 0, 1])
    assert score(["accuracy", "f1", "mcc"], "classification", found) == {
        "accuracy": 0.5,
        "f1": 0.0,
        "mcc": 0.0,
    }


def test_predictions_that_are_not_finite_are_scored_nan() -> None:
    found = score(["pearson", "spearman", "mse"], "regression", split([1, math.nan], [1, 2]))
    assert all(map(math.isnan, found.values()))


@pytest.mark.parametrize("kind", METRICS)
def test_no_example_is_scored_nan_by_every_metric(kind: str) -> None:
    dtype = np.str_ if kind == "question_answering" else np.int64
    nothing = SplitPredictions(
        predictions=np.array([], dtype),
        labels=np.array([], dtype),
        lengths=np.array([], np.int64) if kind in ("question_answering",) else None,
    )
    for metric in METRICS[kind]:
        assert math.isnan(score([metric], kind, nothing, TAGS[:2])[metric]), metric


def test_metrics_of_tokens_are_over_labelled_words_of_all_examples() -> None:
    numbers = np.random.default_rng(3)
    flat, lengths = drawn(4, 5, count=100), np.array([0, 30, 1, 20, 49])
    found = SplitPredictions(predictions=flat.predictions, labels=flat.labels, lengths=lengths)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(flat.labels, flat.predictions),
        "f1_macro": sklearn.metrics.f1_score(flat.labels, flat.predictions, average="macro"),
    }
    assert score(list(expected), "token_classification", found, TAGS) == pytest.approx(expected)
    chosen = numbers.integers(5, size=7)
    words = np.concatenate(
        [np.arange(100)[lengths[:each].sum() :][: lengths[each]] for each in chosen]
    )
    for metric, measure in {
        "accuracy": sklearn.metrics.accuracy_score,
        "f1_macro": lambda y, p: sklearn.metrics.f1_score(y, p, average="macro"),
    }.items():
        of_examples = scorer(metric, "token_classification", found, TAGS)
        expected_value = measure(flat.labels[words], flat.predictions[words])
        assert of_examples(chosen) == pytest.approx(expected_value)


def test_entities_are_counted_over_all_examples() -> None:
    """Right: PER at 0-2 and LOC at 0-1. Found: PER at 0-2, LOC at 0-2 and PER at 2-3."""
    labels = [[1, 2, 0], [3, 0, 0]]
    predictions = [[1, 2, 0], [3, 4, 1]]
    found = SplitPredictions(
        predictions=np.concatenate(predictions),
        labels=np.concatenate(labels),
        lengths=np.array([3, 3]),
    )
    value = score(["entity_f1"], "token_classification", found, TAGS)["entity_f1"]
    assert value == pytest.approx(2 * 1 / (3 + 2))
    of_examples = scorer("entity_f1", "token_classification", found, TAGS)
    assert of_examples(np.array([0, 0])) == 1.0
    assert of_examples(np.array([1])) == 0.0


def test_answers_are_scored_by_the_best_of_several_and_by_none() -> None:
    found = SplitPredictions(
        predictions=np.array(["the Eiffel Tower!", "a red house", "", "something"]),
        labels=np.array(["Eiffel tower", "tower", "red houses", "house"]),
        lengths=np.array([2, 2, 0, 0]),
    )
    # By hand: 1 and 1; no match, and "red house" against "house": 2 * 1 / (2 + 1); 1 and 1; 0.
    assert score(["exact_match", "f1"], "question_answering", found) == pytest.approx(
        {"exact_match": 2 / 4, "f1": (1 + 2 / 3 + 1 + 0) / 4}
    )


@pytest.mark.parametrize("kind", METRICS)
def test_a_sample_of_examples_is_scored_as_a_split_of_them(kind: str) -> None:
    flat = drawn(1, 2)
    if kind == "question_answering":
        found = SplitPredictions(
            predictions=flat.predictions.astype(str),
            labels=flat.labels.astype(str),
            lengths=np.ones(60, np.int64),
        )
    else:
        found = flat
    chosen = np.random.default_rng(2).integers(60, size=25)
    sample = SplitPredictions(
        predictions=found.predictions[chosen],
        labels=found.labels[chosen],
        lengths=None if found.lengths is None else found.lengths[chosen],
    )
    for metric in METRICS[kind]:
        expected = score([metric], kind, sample, TAGS[:2])[metric]
        assert scorer(metric, kind, found, TAGS[:2])(chosen) == pytest.approx(expected), metric


@pytest.mark.parametrize(
    ("kind", "metric", "names", "message"),
    [
        ("clasification", "accuracy", (), "unknown kind of task 'clasification'; did you mean 'cl"),
        ("classification", "acuracy", (), "'acuracy' is unknown; did you mean 'accuracy'"),
        ("classification", "pearson", (), "'pearson' goes with regression, not with class"),
        ("multiple_choice", "f1", (), "goes with classification, question_answering, not with"),
        ("classification", "f1", ("a", "b", "c"), "of two classes, and there are 3; take f1_macro"),
        ("token_classification", "entity_f1", ("O", "name"), "label 'name' is neither O nor like"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused_with_what_goes(
    kind: str, metric: str, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        require_metrics(kind, [metric], names)


def test_less_is_better_of_errors_alone() -> None:
    every = {name for known in METRICS.values() for name in known}
    assert {name for name in every if not higher_is_better(name)} == {"mse"}
