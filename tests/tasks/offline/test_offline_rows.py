"""The tasks as this environment gives them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from data_prep.demo import demo_documents
from flexbert.errors import UserError
from flexbert.tasks.offline import offline_rows as module
from flexbert.tasks.offline.installed import installed_versions
from flexbert.tasks.offline.module_splits import SPLITS
from flexbert.tasks.offline.offline_rows import offline_fingerprint, offline_rows
from flexbert.tasks.offline.task_makers import TASKS
from tests.tasks.offline.test_task_makers import texts_of

Rows = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("docstring_mach", "train", "no task 'docstring_mach'; did you mean 'docstring_match'?"),
        ("relatedness", "valid", "no split 'valid'; did you mean 'validation'?"),
    ],
)
def test_unknown_names_are_one_line(task: str, split: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"offline:{task}:{split}: {message}")):
        offline_rows(task, split)


def test_too_little_text_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    empty = {task: {split: [] for split in SPLITS} for task in TASKS}
    monkeypatch.setattr(module, "make_tasks", lambda corpus: empty)
    with pytest.raises(UserError, match=r"offline:relatedness:test: too little text .*scipy"):
        offline_rows("relatedness", "test")
    monkeypatch.setattr(module, "installed_versions", dict)
    with pytest.raises(UserError, match=r"\(none\); install the locked requirements"):
        offline_rows("relatedness", "test")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Rows]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield {task: {split: offline_rows(task, split) for split in SPLITS} for task in TASKS}


@pytest.mark.slow
def test_every_task_has_thousands_of_rows(
    tasks: dict[str, dict[str, Rows]], capsys: pytest.CaptureFixture[str]
) -> None:
    for task, splits in tasks.items():
        least = (2000, 300, 300) if task == "relatedness" else (4000, 700, 700)
        assert all(len(rows) >= few for rows, few in zip(splits.values(), least, strict=True)), task
    assert len(tasks["docstring_match"]["train"]) >= 9000
    assert len(installed_versions()) >= 15
    assert re.fullmatch("[0-9a-f]{16}", offline_fingerprint())


@pytest.mark.slow
def test_no_text_of_a_test_can_be_known_by_heart(tasks: dict[str, dict[str, Rows]]) -> None:
    """Neither from training nor from the quickstart's corpus; by whole words, one text by one."""
    corpus = " ".join(" ".join(re.findall(r"\w+", text.lower())) for _, text in demo_documents())
    for task, splits in tasks.items():
        train, validation, test = (set(texts_of(rows)) for rows in splits.values())
        assert train.isdisjoint(validation | test)
        assert validation.isdisjoint(test)
        if task != "code_names":  # short functions share their tokens' words with anything
            long = [" ".join(re.findall(r"\w+", text.lower())) for text in sorted(test)[:400]]
            known = [text for text in long if len(text.split()) >= 8 and text in corpus]
            assert known == [], task


def accuracy_of_tfidf(train: Rows, test: Rows, columns: tuple[str, ...]) -> float:
    vectors = TfidfVectorizer(sublinear_tf=True, min_df=2)
    texts = [[" ".join(row[column] for column in columns) for row in own] for own in (train, test)]
    fitted = LogisticRegression(max_iter=200).fit(
        vectors.fit_transform(texts[0]), [row["label"] for row in train]
    )
    return float(fitted.score(vectors.transform(texts[1]), [row["label"] for row in test]))


@pytest.mark.slow
def test_bags_of_words_solve_no_task(tasks: dict[str, dict[str, Rows]]) -> None:
    match, topic = tasks["docstring_match"], tasks["package_topic"]
    pair = accuracy_of_tfidf(match["train"], match["test"], ("docstring", "code"))
    assert 0.45 <= pair <= 0.55
    assert 0.3 <= accuracy_of_tfidf(topic["train"], topic["test"], ("text",)) <= 0.75
    train, test = (
        [(f"{row['first']} {row['second']}", row["score"]) for row in tasks["relatedness"][split]]
        for split in ("train", "test")
    )
    vectors = TfidfVectorizer(sublinear_tf=True)
    ridge = Ridge().fit(vectors.fit_transform([t for t, _ in train]), [s for _, s in train])
    predicted = ridge.predict(vectors.transform([text for text, _ in test]))
    assert pearsonr(predicted, [score for _, score in test])[0] < 0.5


@pytest.mark.slow
def test_words_in_common_say_something(tasks: dict[str, dict[str, Rows]]) -> None:
    """So pairs can be learned, by whoever compares the two texts."""

    def overlap(first: str, second: str) -> float:
        one, other = (set(re.findall("[a-z]{3,}", text.lower())) for text in (first, second))
        return len(one & other) / max(len(one), 1)

    match = tasks["docstring_match"]["test"]
    shared = {
        label: np.mean([overlap(r["docstring"], r["code"]) for r in match if r["label"] == label])
        for label in ("yes", "no")
    }
    assert shared["yes"] > 1.2 * shared["no"]
    related = tasks["relatedness"]["test"]
    scores = {
        score: np.mean([overlap(r["first"], r["second"]) for r in related if r["score"] == score])
        for score in (0.0, 0.5, 1.0)
    }
    assert scores[0.0] < scores[0.5] < scores[1.0]


@pytest.mark.slow
def test_a_second_process_reads_what_the_first_made(tasks: dict[str, dict[str, Rows]]) -> None:
    def refuse(corpus: object) -> None:
        raise AssertionError("made again")

    (cache,) = Path(os.environ["XDG_CACHE_HOME"]).glob("flexbert/offline/*")
    assert cache.name == offline_fingerprint()
    assert len(list(cache.glob("*.jsonl"))) == len(TASKS) * len(SPLITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_tasks", refuse)
        assert offline_rows("relatedness", "test") == tasks["relatedness"]["test"]
