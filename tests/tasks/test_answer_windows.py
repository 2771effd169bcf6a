"""Contexts in windows, against transformers' tokenizers; answers, against all spans there are."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from flexbert.tasks.answer_windows import CLS, Answer, best_answer, encode_windows, window_borders
from flexbert.tasks.encoded_texts import EncodedTexts, TextEncoder
from flexbert.tasks.text_template import text_template
from tests.tasks.trained_tokenizers import SENTENCES

CONTEXT = "  ".join(SENTENCES)
QUESTION = "some words (again)?"


def windows(trained: Any, question: str, context: str, max_length: int, stride: int, *answers: str):  # type: ignore[no-untyped-def]
    template = text_template(trained, pairs=True)
    encoder = TextEncoder(tokenizer=trained, template=template, max_length=max_length)
    right = [Answer(text=text, start=context.index(text)) for text in answers]
    return encode_windows(encoder, [question], [context], [right], stride)


def read(found: EncodedTexts, window: int, context: str) -> str:
    """What a window's label says."""
    first, last = found.labels[window][0]
    offsets = found.offsets[window]
    return context[offsets[first, 0] : offsets[last, 1]]


@pytest.mark.parametrize("stride", [0, 5, 20])
@pytest.mark.parametrize("max_length", [60, 100, 2000])
def test_windows_are_those_of_transformers(trained: Any, max_length: int, stride: int) -> None:
    expected = trained(
        QUESTION,
        CONTEXT,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
        return_offsets_mapping=True,
    )
    found = windows(trained, QUESTION, CONTEXT, max_length, stride)
    assert [ids.tolist() for ids in found.tokens] == expected["input_ids"]
    assert [types.tolist() for types in found.types] == expected["token_type_ids"]
    assert found.counts == [len(expected["input_ids"])]
    assert found.cut == 0
    for index, (own, theirs) in enumerate(
        zip(found.offsets, expected["offset_mapping"], strict=True)
    ):
        is_context = [owner == 1 for owner in expected.sequence_ids(index)]
        assert [low >= 0 for low, _ in own.tolist()] == is_context
        # Of a window's first token a tokenizer may take the space before its word to it.
        assert [CONTEXT[low:high].strip() for low, high in own[is_context]] == [
            CONTEXT[low:high].strip()
            for (low, high), is_its in zip(theirs, is_context, strict=True)
            if is_its
        ]


@pytest.mark.parametrize("stride", [0, 1, 3, 128])
def test_windows_hold_every_token_and_none_reaches_beyond(stride: int) -> None:
    for tokens, width in itertools.product(range(30), range(1, 12)):
        borders = window_borders(tokens, width, stride)
        covered = {place for begin, end in borders for place in range(begin, end)}
        assert covered == set(range(tokens))
        assert all(end - begin <= width for begin, end in borders)
        for (_, end), (begin, _) in itertools.pairwise(borders):
            assert end - begin == min(stride, width // 2)
        assert borders[-1][1] == tokens, "and the last is not within the one before"
        assert len(borders) == 1 or borders[-2][1] < tokens


@pytest.mark.parametrize(
    "answer", ["naïve café-goers", "12,000", "(again)", "some words", "\u4e2d\u6587", "x"]
)
def test_a_label_is_the_tokens_of_the_answer(trained: Any, answer: str) -> None:
    found = windows(trained, QUESTION, CONTEXT, 70, 40, answer, "x")
    labels = [tuple(label[0].tolist()) for label in found.labels]
    holding = [index for index, label in enumerate(labels) if label != (CLS, CLS)]
    assert holding
    for index in holding:
        assert answer in read(found, index, CONTEXT)
        # Without its first and last token it would not be whole.
        first, last = labels[index]
        offsets = found.offsets[index]
        assert offsets[first, 1] > CONTEXT.index(answer) >= offsets[first, 0]
        assert offsets[last, 0] < CONTEXT.index(answer) + len(answer) <= offsets[last, 1]


def test_a_window_without_the_whole_answer_says_none(trained: Any) -> None:
    answer = "the longer text has more than the other one"
    found = windows(trained, QUESTION, CONTEXT, 60, 10, answer)
    begin, end = CONTEXT.index(answer), CONTEXT.index(answer) + len(answer)
    for label, offsets in zip(found.labels, found.offsets, strict=True):
        covered = offsets[offsets[:, 0] < offsets[:, 1]]
        is_whole = covered[0, 0] <= begin and covered[-1, 1] >= end
        assert (label[0].tolist() != [CLS, CLS]) == is_whole
    assert not any(label.any() for label in windows(trained, QUESTION, CONTEXT, 60, 10).labels)


def test_of_a_sequence_a_question_takes_half_at_most(trained: Any) -> None:
    found = windows(trained, CONTEXT, "some words", 40, 128)
    assert found.cut == 1
    assert max(map(len, found.tokens)) <= 40
    (row,) = trained([CONTEXT], add_special_tokens=False)["input_ids"]
    assert found.tokens[0][1:19].tolist() == row[:18]
    assert found.offsets[0][:20].tolist() == [[-1, -1]] * 20


def test_a_context_without_a_token_is_a_window(trained: Any) -> None:
    found = windows(trained, QUESTION, "", 60, 10)
    assert (found.counts, found.labels[0].tolist()) == ([1], [[CLS, CLS]])


@pytest.mark.parametrize("longest", [1, 3, 100])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_answer_is_the_best_of_all_spans(trained: Any, seed: int, longest: int) -> None:
    found = windows(trained, QUESTION, CONTEXT, 50, 10)
    borders = np.cumsum([0, *map(len, found.tokens)]).tolist()
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(borders[-1], 2)).astype(np.float32)
    spans = []
    for offsets, begin in zip(found.offsets, borders[:-1], strict=True):
        places = [place for place, (low, high) in enumerate(offsets) if low < high]
        for first, last in itertools.combinations_with_replacement(places, 2):
            if places.index(last) - places.index(first) < longest:
                value = scores[begin + first, 0] + scores[begin + last, 1]
                spans.append((value, CONTEXT[offsets[first, 0] : offsets[last, 1]].strip()))
    text, best, none = best_answer(scores, np.concatenate(found.offsets), borders, CONTEXT, longest)
    assert (best, text) == max(spans)
    assert none == pytest.approx(min(scores[begin].sum() for begin in borders[:-1]))


def test_scores_that_are_no_numbers_answer_nothing(trained: Any) -> None:
    found = windows(trained, QUESTION, CONTEXT, 200, 10)
    scores = np.full((len(found.tokens[0]), 2), np.nan, np.float32)
    text, *_ = best_answer(scores, found.offsets[0], [0, len(scores)], CONTEXT, 30)
    assert text == ""
