from __future__ import annotations

import pytest

from flexbert.tasks.answers import answer_f1, exact_match, normalized_answer


def test_an_answer_is_normalized_as_squad_does() -> None:
    assert normalized_answer("  The Cat's  hat, an (old) one. ") == "cats hat old one"
    assert normalized_answer("another") == "another"
    assert normalized_answer("The") == ""


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("In 1990", ["1990", "in 1990"], 1, 1),
        ("1990", ["in 1990"], 0, 2 / 3),
        ("to to go", ["to go"], 0, 4 / 5),
        ("", ["something"], 0, 0),
        ("something", [], 0, 0),
        ("the", [], 1, 1),
        # Answers that are nothing when normalized do not count where there are others.
        ("", ["the", "cat"], 0, 0),
    ],
)
def test_answers_are_compared_by_their_words(
    prediction: str, answers: list[str], exact: float, f1: float
) -> None:
    assert exact_match(prediction, answers) == exact
    assert answer_f1(prediction, answers) == pytest.approx(f1)
