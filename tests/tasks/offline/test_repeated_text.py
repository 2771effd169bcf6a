"""Copies are found as sets of runs find them, written out."""

from __future__ import annotations

import random
import re

from flexbert.tasks.offline.repeated_text import RepeatedText, first_of_each
from tests.tasks.offline.small_packages import words


def runs(text: str) -> list[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    short = [tuple(found)] if 0 < len(found) < 5 else []
    return short + [tuple(found[start : start + 5]) for start in range(len(found) - 4)]


def test_repeats_are_those_of_sets_of_runs() -> None:
    draw = random.Random(5)
    base = [words(draw, draw.randrange(0, 30)) for _ in range(60)]
    batches = []
    for _ in range(3):
        batch = []
        for _ in range(80):
            text = [*draw.choice(base)]
            for _ in range(draw.choice([0, 0, 1, 3])):
                text[draw.randrange(len(text) + 1) :] = words(draw, 4)
            batch.append(draw.choice([" ", ", ", "\n"]).join(text).title())
        batches.append(batch)
    repeated, seen = RepeatedText(), set()
    answers = []
    for batch in batches:
        expected = []
        for text in batch:
            own = runs(text)
            expected.append(bool(own) and sum(run in seen for run in own) < len(own) / 2)
        assert repeated.add(batch) == expected
        answers += expected
        seen |= {run for text in batch for run in runs(text)}
    assert 0.1 < sum(answers) / len(answers) < 0.9


def test_order_and_place_of_words_count() -> None:
    repeated = RepeatedText()
    assert repeated.add([]) == []
    assert repeated.add(["one two three four five six"]) == [True]
    texts = ["six five four three two one", "ONE, two. three four five!", "one two", "", "five one"]
    assert repeated.add(texts) == [True, False, True, False, True]
    assert repeated.add(["one two", "two one", "one two three"]) == [False, True, True]


def test_the_first_of_equal_texts_is_told() -> None:
    assert first_of_each(["A b.", "a c", "a, B", "a c"]) == [True, True, False, False]
