"""Questions end to end, the loss against transformers' own, and rows that are none."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flexbert.errors import UserError
from flexbert.tasks.answer_windows import Answer
from flexbert.tasks.designs import DESIGNS
from flexbert.tasks.encoded_split import EncodedSplit, WindowTexts
from flexbert.tasks.evaluation import make_floors
from flexbert.tasks.fine_tuning import labelled_logits
from flexbert.tasks.fits import FitMaker
from flexbert.tasks.kept_fits import read_fits
from flexbert.tasks.kinds.question_answering import NO_ANSWER, QuestionAnswering
from flexbert.tasks.models import find_models
from flexbert.tasks.predictions_file import read_predictions
from flexbert.tasks.results import FitRecord
from flexbert.tasks.search import Search, finished_fits, make_search, run_search
from flexbert.tasks.suite import load_suite
from flexbert.tasks.tables import Table, read_table
from tests.huggingface.cases import MODELS, random_model, their_model
from tests.tasks.cases import (
    MARK,
    WORDS,
    encoded,
    one_task,
    rows_of,
    write_jsonl,
    write_suite,
    write_tiny,
)

CPU = torch.device("cpu")
CONTEXT = "The river Elbe is long. The Rhine is longer."
GOOD: dict[str, Any] = {
    "question": "Which is longer?",
    "context": CONTEXT,
    "answers": {"text": ["Rhine", "The Rhine"], "answer_start": [28, 24]},
}
NONE: dict[str, Any] = {**GOOD, "answers": {"text": [], "answer_start": []}}


def table(*rows: dict[str, Any]) -> Table:
    return Table(source="rows.jsonl", rows=list(rows))


def test_answers_are_read_as_squad_and_as_plain_columns_have_them(tmp_path: Path) -> None:
    kind = QuestionAnswering()
    found = kind.examples(table(GOOD, NONE, {**GOOD, "answers": None}), ())
    right = [Answer(text="Rhine", start=28), Answer(text="The Rhine", start=24)]
    assert found.labels == [right, [], []]
    assert (list(found.first), found.second) == (["Which is longer?"] * 3, [CONTEXT] * 3)

    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["q", "c", "a", "at"])
        rows.writerow(["Which is longer?", CONTEXT, "Rhine", "28"])
        rows.writerow(["Which is dry?", CONTEXT, "", ""])
    kind = QuestionAnswering(question="q", context="c", answers="a", starts="at")
    read = read_table(str(tmp_path / "rows.csv"))
    kind.check_columns(read)
    assert kind.examples(read, ()).labels == [right[:1], []]
    flat = {"answers.text": "Rhine", "answers.answer_start": 28, **GOOD}
    assert QuestionAnswering().examples(table(flat), ()).labels == [right[:1]]


def test_no_answer_is_predicted_where_training_rows_have_it() -> None:
    assert QuestionAnswering().names_in(table(GOOD, GOOD)) == ()
    assert QuestionAnswering().names_in(table(GOOD, NONE)) == (NO_ANSWER,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"answers": {"text": ["Rhine"], "answer_start": [27]}},
            "rows.jsonl: row 2: the answer 'Rhine' does not stand at character 27 of context, "
            "but at 28",
        ),
        (
            {"answers": {"text": ["Danube"], "answer_start": [28]}},
            "rows.jsonl: row 2: the answer 'Danube' does not stand at character 28 of context, "
            "nor anywhere else in it",
        ),
        (
            {"answers": {"text": ["Rhine", "Elbe"], "answer_start": [28]}},
            "rows.jsonl: row 2: 2 answers and 1 starts",
        ),
        (
            {"answers": {"text": ["Rhine"], "answer_start": [-1]}},
            "rows.jsonl: row 2: answers.answer_start: expected whole numbers from 0",
        ),
        (
            {"answers": {"text": [3], "answer_start": [28]}},
            "rows.jsonl: row 2: answers.text: expected a text, a list of them, or nothing",
        ),
        (
            {"answers": {"text": ["Rhine"]}},
            "rows.jsonl: row 2: no column 'answers.answer_start'; did you mean 'answers'? "
            "(known: answers, context, question)",
        ),
        ({"answers": "Rhine"}, "rows.jsonl: row 2: no column 'answers.text'; "),
        ({"context": None}, "rows.jsonl: row 2: context: expected a text, got null"),
        ({"question": 7}, "rows.jsonl: row 2: question: expected a text, got 7"),
    ],
)
def test_a_row_that_is_none_is_one_line(changes: dict[str, Any], message: str) -> None:
    rows = table(GOOD, {**GOOD, **changes})

    def read() -> None:
        QuestionAnswering().check_columns(rows)
        QuestionAnswering().examples(rows, QuestionAnswering().names_in(rows))

    with pytest.raises(UserError) as caught:
        read()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_the_loss_is_that_of_transformers_in_each_window(
    tmp_path: Path, pair_tokenizer: dict[str, str], name: str
) -> None:
    config = MODELS[f"{name} question_answering"]
    task = one_task(tmp_path, "question_answering", max_length=16)
    split = encoded(task, config, pair_tokenizer)[1].train
    assert len(split.borders) - 1 > len(split), "some contexts have several windows"
    ours: Any = random_model(config).eval()
    theirs, _ = their_model(ours, config)
    batch = split.batch(np.arange(len(split)), CPU)
    found = task.settings.kind.losses(labelled_logits(ours, batch), batch.labels, batch.rows)

    expected = []
    for begin, end, (first, last) in zip(
        split.borders, split.borders[1:], split.labels, strict=False
    ):
        inputs = {"input_ids": torch.from_numpy(split.tokens[begin:end]).long()[None]}
        if split.token_types is not None:
            inputs["token_type_ids"] = torch.from_numpy(split.token_types[begin:end]).long()[None]
        places: dict[str, Tensor] = {
            "start_positions": torch.tensor([first]),
            "end_positions": torch.tensor([last]),
        }
        expected.append(theirs(**inputs, **places).loss)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)
    # A batch of some examples has the windows of these.
    some = np.array([5, 0, 7])
    part = split.batch(some, CPU)
    again = task.settings.kind.losses(labelled_logits(ours, part), part.labels, part.rows)
    own = torch.split(found, np.diff(split.firsts).tolist())
    torch.testing.assert_close(again, torch.cat([own[i] for i in some]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("may_have_none", [False, True])
def test_there_is_no_answer_where_cls_scores_higher_in_every_window(may_have_none: bool) -> None:
    # Two windows of [CLS], a special token and two words.
    outside = [[-1, -1], [-1, -1]]
    split = EncodedSplit(
        tokens=np.zeros(8, np.int32),
        borders=np.array([0, 4, 8]),
        token_types=None,
        labels=np.zeros((2, 2), np.int64),
        sequences=np.array([2]),
        cut=0,
        labels_of="sequences",
        windows=WindowTexts(
            offsets=np.array([*outside, [0, 3], [3, 8], *outside, [3, 8], [8, 10]], np.int32),
            contexts=["Die Elbe ?"],
            answers=[["Elbe"]],
            may_have_none=may_have_none,
        ),
    )
    scores = np.zeros((8, 2), np.float32)
    scores[[0, 4]] = [[2, 2], [3, 2]]
    scores[3] = [2, 1]
    # Outside of the context nothing can be an answer.
    scores[1] = 9
    kind = QuestionAnswering()
    for of_none in (0.0, -2.0):
        scores[0] = 2 + of_none / 2
        found = kind.predictions(split, [scores])
        assert found.predictions.tolist() == ["" if may_have_none and of_none == 0 else "Elbe"]
        assert found.scores is not None
        assert found.scores.tolist() == [[3.0, 4.0 + of_none]]
        assert (found.labels.tolist(), found.lengths) == (["Elbe"], np.array([1]))


def questions(count: int, seed: int, unanswerable: float) -> list[dict[str, Any]]:
    """Rows of which some have no mark, and no answer."""
    draw = np.random.default_rng(seed)
    rows = rows_of("question_answering", count, seed)
    for row in rows:
        if draw.random() < unanswerable:
            row["context"] = row["context"].replace(MARK, str(draw.choice(WORDS[1:])))
            row["answers"] = {"text": [], "answer_start": []}
    return rows


def searched(
    folder: Path, tokenizer: dict[str, str], unanswerable: float = 0.0, **settings: Any
) -> tuple[Search, FitRecord]:
    """The one fit of a suite of questions."""
    data = {
        split: str(write_jsonl(folder / f"{split}.jsonl", questions(count, seed, unanswerable)))
        for seed, (split, count) in enumerate({"train": 320, "validation": 60}.items())
    }
    node = {
        "data": data,
        "kind": {"name": "question_answering", "stride": 4},
        "metrics": ["exact_match", "f1"],
        "max_length": 20,
        "epochs": 6,
        "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.01},
        **settings,
    }
    suite = load_suite(write_suite(folder, {"ask": node}))
    model = write_tiny(folder / "tiny.pt", tokenizer)
    search = make_search(
        suite, find_models([f"tiny={model}"]), "fine_tune", DESIGNS["full"], folder / "results"
    )
    records: list[FitRecord] = []
    run_search(search, FitMaker(search.folder, CPU), lambda record, _: records.append(record))
    return search, records[0]


@pytest.mark.slow
def test_a_tiny_model_learns_to_answer_with_the_word_behind_a_mark(
    tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    search, record = searched(tmp_path, pair_tokenizer)
    assert record.value > 0.9
    assert record.examples == {"train": 320, "validation": 60}
    assert record.cut == {"train": 0, "validation": 0}
    split = read_predictions(search.folder / str(record.predictions)).splits["validation"]
    rows = questions(60, 1, 0.0)
    assert split.labels.tolist() == [row["answers"]["text"][0] for row in rows]
    hits = [
        given == row["answers"]["text"][0]
        for given, row in zip(split.predictions.tolist(), rows, strict=True)
    ]
    assert record.metrics["exact_match"] == pytest.approx(np.mean(hits))
    assert all(split.predictions != "")

    make_floors(search)
    floors = [fit.record for fit in read_fits([search.folder]) if fit.record.mode == "floor"]
    assert {floor.model for floor in floors} == {"majority", "tf-idf + logistic regression"}
    assert all(floor.metrics["f1"] < record.metrics["f1"] for floor in floors)
    assert len(finished_fits(search.folder)) == 3


@pytest.mark.slow
def test_a_tiny_model_learns_that_there_is_no_answer(
    tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    search, record = searched(tmp_path, pair_tokenizer, unanswerable=0.4)
    predictions = read_predictions(search.folder / str(record.predictions))
    assert predictions.label_names == (NO_ANSWER,)
    split = predictions.splits["validation"]
    assert split.lengths is not None
    right = (split.predictions == "") == (split.lengths == 0)
    assert right.mean() > 0.9
    assert record.value > 0.85


def test_there_is_no_frozen_mode(tmp_path: Path, pair_tokenizer: dict[str, str]) -> None:
    node = {
        "data": {"train": str(write_jsonl(tmp_path / "rows.jsonl", questions(20, 0, 0.0)))},
        "kind": {"name": "question_answering"},
        "metrics": ["f1"],
    }
    suite = load_suite(write_suite(tmp_path, {"ask": node}))
    models = find_models([f"tiny={write_tiny(tmp_path / 'tiny.pt', pair_tokenizer)}"])
    search = make_search(suite, models, "frozen", DESIGNS["full"], tmp_path / "results")
    maker = FitMaker(search.folder, CPU)
    with pytest.raises(UserError, match=r"^question_answering: has no frozen mode; leave --frozen"):
        run_search(search, maker, lambda record, progress: None)
