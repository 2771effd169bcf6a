"""Floors: the majority against scikit-learn, linear models on tasks that only they can learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from flexbert.config.training import IGNORE
from flexbert.errors import UserError
from flexbert.tasks import linear_floor
from flexbert.tasks.floors import (
    AnswerExamples,
    ChoiceExamples,
    FloorExamples,
    TextExamples,
    WordExamples,
    majority_floor,
)
from flexbert.tasks.linear_floor import tf_idf_floor
from flexbert.tasks.results import MAJORITY, TF_IDF
from flexbert.tasks.scoring import score

WORDS = np.array(["red", "green", "blue", "one", "two", "three", "north", "south", "east"])


def splits(make: object, seed: int = 0) -> tuple[FloorExamples, dict[str, FloorExamples]]:
    numbers = np.random.default_rng(seed)
    return make(numbers, 300), {"validation": make(numbers, 80), "test": make(numbers, 60)}  # type: ignore[operator]


def drawn_texts(numbers: np.random.Generator, count: int) -> list[str]:
    return [" ".join(numbers.choice(WORDS, 4)) for _ in range(count)]


def texts(numbers: np.random.Generator, count: int) -> TextExamples:
    """Label 1 where a text has the word "red", nine of ten times."""
    first = drawn_texts(numbers, count)
    labels = [("red" in text) != (numbers.random() < 0.1) for text in first]
    return TextExamples(first=first, labels=np.array(labels, np.int64))


def pairs(numbers: np.random.Generator, count: int) -> TextExamples:
    """Label 1 where both have the same word: neither text says anything alone."""
    first = numbers.choice(WORDS, count)
    other = np.where(numbers.random(count) < 0.5, first, numbers.choice(WORDS, count))
    return TextExamples(
        first=[f"it is {word}" for word in first],
        second=[f"{word} was there" for word in other],
        labels=(first == other).astype(np.int64),
    )


def related(numbers: np.random.Generator, count: int) -> TextExamples:
    """How many words two texts share."""
    first, second = drawn_texts(numbers, count), drawn_texts(numbers, count)
    shared = [len({*one.split()} & {*other.split()}) for one, other in zip(first, second)]  # noqa: B905
    return TextExamples(first=first, second=second, labels=np.array(shared, np.float64))


def choices(numbers: np.random.Generator, count: int) -> ChoiceExamples:
    """The right choice repeats the text's word."""
    four = [numbers.permutation(WORDS)[:4] for _ in range(count)]
    labels = numbers.integers(4, size=count)
    return ChoiceExamples(
        texts=[f"about {own[label]}" for own, label in zip(four, labels, strict=True)],
        choices=[own.tolist() for own in four],
        labels=labels,
    )


def words(numbers: np.random.Generator, count: int) -> WordExamples:
    """The class of a word is decided by the one before it; the first has none."""
    drawn = [numbers.choice(WORDS, numbers.integers(1, 6)).tolist() for _ in range(count)]
    labels = [[IGNORE, *(int(w in ("red", "one")) for w in own[:-1])] for own in drawn]
    return WordExamples(words=drawn, labels=labels)


def test_the_majority_is_that_of_scikit_learn() -> None:
    train, others = splits(texts)
    assert isinstance(train, TextExamples)
    floor = majority_floor(train, others)
    assert floor.model == MAJORITY
    dummy = DummyClassifier(strategy="most_frequent").fit(train.first, train.labels)
    for name, split in floor.splits.items():
        expected = dummy.predict(others[name].first)  # type: ignore[union-attr]
        np.testing.assert_array_equal(split.predictions, expected)
        np.testing.assert_array_equal(split.labels, others[name].labels)  # type: ignore[union-attr]


def test_of_equally_frequent_classes_the_lowest_is_taken() -> None:
    train = TextExamples(first=["a"] * 5, labels=np.array([2, 1, 2, 1, 0]))
    assert majority_floor(train, {"test": train}).splits["test"].predictions.tolist() == [1] * 5


def test_the_floor_of_numbers_is_their_mean_and_scores_no_correlation() -> None:
    train = TextExamples(first=["a", "b"], second=["c", "d"], labels=np.array([1.0, 4.0]))
    split = majority_floor(train, {"validation": train}).splits["validation"]
    assert split.predictions.tolist() == [2.5, 2.5]
    assert score(["pearson", "mse"], "regression", split) == {"pearson": 0.0, "mse": 2.25}


def test_a_word_has_its_own_most_frequent_class_and_a_new_one_that_of_all() -> None:
    train = WordExamples(words=[["a", "b", "a"], ["a", "c"]], labels=[[1, 0, 1], [2, IGNORE]])
    test = WordExamples(
        words=[[], ["a", "b"], ["c", "new", "x"]], labels=[[], [1, 1], [0, 1, IGNORE]]
    )
    split = majority_floor(train, {"test": test}).splits["test"]
    assert split.predictions.tolist() == [1, 0, 1, 1]
    assert split.labels.tolist() == [1, 1, 0, 1]
    assert split.lengths is not None
    assert split.lengths.tolist() == [0, 2, 2]


@pytest.mark.parametrize(("answered", "expected"), [(1, ["It rains.", "x"]), (0, ["", ""])])
def test_a_question_is_answered_by_the_first_sentence_or_not_at_all(
    answered: int, expected: list[str]
) -> None:
    train = AnswerExamples(
        questions=["?"] * 3, contexts=["."] * 3, answers=[["a"], ["b"] * answered, []]
    )
    test = AnswerExamples(
        questions=["?", "?"], contexts=["It rains. It pours.", "x"], answers=[["a", "b"], []]
    )
    split = majority_floor(train, {"test": test}).splits["test"]
    assert split.predictions.tolist() == expected
    assert split.labels.tolist() == ["a", "b"]
    assert split.lengths is not None
    assert split.lengths.tolist() == [2, 0]


@pytest.mark.parametrize("numbers", [False, True])
def test_the_linear_floor_of_texts_is_that_of_a_pipeline_of_scikit_learn(numbers: bool) -> None:
    train, others = splits(texts)
    if numbers:
        train, others = splits(
            lambda numbers, count: TextExamples(
                first=(drawn := drawn_texts(numbers, count)),
                labels=np.array([text.count("e") / 7 for text in drawn]),
            )
        )
    assert isinstance(train, TextExamples)
    kind, metric = ("regression", "mse") if numbers else ("classification", "accuracy")
    floor = tf_idf_floor(kind, train, others, metric)
    scores = {}
    predictions = {}
    for strength in (0.01, 0.1, 1.0, 10.0) if numbers else (0.1, 1.0, 10.0):
        model = Ridge(alpha=1 / strength) if numbers else LogisticRegression(C=strength)
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        pipeline = make_pipeline(vectorizer, model).fit(train.first, train.labels)
        predictions[strength] = {
            name: pipeline.predict(split.first)  # type: ignore[union-attr]
            for name, split in others.items()
        }
        validation = others["validation"]
        assert isinstance(validation, TextExamples)
        errors = predictions[strength]["validation"] - validation.labels
        scores[strength] = (errors**2).mean()
    assert scores[floor.settings["inverse_penalty"]] == min(scores.values())
    for name, split in floor.splits.items():
        expected = predictions[floor.settings["inverse_penalty"]][name]
        np.testing.assert_allclose(split.predictions, expected, atol=1e-3)
    assert floor.settings["model"] == ("ridge" if numbers else "logistic regression")


def test_the_penalty_for_numbers_is_in_scale_whatever_ranks_them() -> None:
    train, others = splits(related)
    floors = [tf_idf_floor("regression", train, others, each) for each in ("spearman", "mse")]
    assert floors[0].settings == floors[1].settings


@pytest.mark.parametrize(
    ("make", "kind", "metric", "chance", "least"),
    [
        (texts, "classification", "accuracy", 0.7, 0.85),
        (pairs, "classification", "accuracy", 0.7, 0.95),
        (related, "regression", "spearman", 0.0, 0.85),
        (choices, "multiple_choice", "accuracy", 0.4, 0.95),
        (words, "token_classification", "accuracy", 0.85, 0.98),
    ],
)
def test_what_words_decide_is_learned_and_what_is_frequent_does_not_do(
    make: object, kind: str, metric: str, chance: float, least: float
) -> None:
    train, others = splits(make)
    floor = tf_idf_floor(kind, train, others, metric)
    assert floor.model == TF_IDF
    majority = majority_floor(train, others)
    for name in ("validation", "test"):
        assert score([metric], kind, floor.splits[name])[metric] >= least
        assert score([metric], kind, majority.splits[name])[metric] <= chance
        np.testing.assert_array_equal(floor.splits[name].labels, majority.splits[name].labels)


def test_a_question_is_answered_by_the_nearest_sentence() -> None:
    examples = AnswerExamples(
        questions=["Who saw the red house?", "?!"],
        contexts=["It rains. Ann saw a red house. Bob slept.", "x y. z"],
        answers=[["Ann"], ["x"]],
    )
    floor = tf_idf_floor("question_answering", examples, {"validation": examples}, "f1")
    predicted = floor.splits["validation"].predictions.tolist()
    assert predicted == ["Ann saw a red house.", "x y."]


@pytest.mark.parametrize("make", [texts, words])
def test_the_same_examples_give_the_same_floor(make: object) -> None:
    kind = "classification" if make is texts else "token_classification"
    first, second = (tf_idf_floor(kind, *splits(make), "accuracy") for _ in range(2))
    assert first.settings == second.settings
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.predictions, second.splits[name].predictions)


@pytest.mark.parametrize("content", ["!?", "a word"])
def test_where_there_is_nothing_to_learn_the_majority_stands(content: str) -> None:
    labels = np.array([1, 1, 1, 0]) if content == "!?" else np.array([1, 1, 1, 1])
    train = TextExamples(first=[content] * 4, labels=labels)
    floor = tf_idf_floor("classification", train, {"validation": train}, "accuracy")
    assert (floor.model, floor.settings) == (TF_IDF, {"prediction": "label 1"})
    assert floor.splits["validation"].predictions.tolist() == [1] * 4


def test_a_large_task_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_floor, "MOST_EXAMPLES", 100)
    monkeypatch.setattr(linear_floor, "MOST_WORDS", 120)
    train, others = splits(pairs)
    floor = tf_idf_floor("classification", train, others, "accuracy")
    assert (floor.settings["rows"], floor.settings["examples_of"]) == (100, 300)
    train, others = splits(words)
    floor = tf_idf_floor("token_classification", train, others, "accuracy")
    assert floor.settings["rows"] == 120
    assert floor.settings["words_of"] == majority_floor(train, {"a": train}).splits["a"].labels.size


def test_a_text_of_a_million_characters_is_cut() -> None:
    long = "word " * 200_000
    train = TextExamples(first=["one " + long, "two"] * 10, labels=np.array([0, 1] * 10))
    floor = tf_idf_floor("classification", train, {"validation": train}, "accuracy")
    assert floor.splits["validation"].predictions.tolist() == [0, 1] * 10
    assert floor.settings["longest_text"] == linear_floor.LONGEST_TEXT


def test_no_label_in_training_is_one_line() -> None:
    nothing = TextExamples(first=[], labels=np.array([], np.int64))
    with pytest.raises(UserError, match="the training split has no labels"):
        majority_floor(nothing, {})
    unlabelled = WordExamples(words=[["a"]], labels=[[IGNORE]])
    with pytest.raises(UserError, match="the training split has no labels"):
        tf_idf_floor("token_classification", unlabelled, {}, "accuracy")
