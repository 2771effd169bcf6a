"""Answers compared as SQuAD's evaluation script does (Rajpurkar et al. 2016; 2018 for none)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_answer(answer: str) -> str:
    """In lower case, without punctuation, articles and extra white space."""
    plain = answer.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction is one of the answers, normalized; else 0."""
    return _best(prediction, answers, lambda given, right: float(given == right))


def answer_f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 over the words of the prediction and of the answer that it is nearest to."""
    return _best(prediction, answers, _word_f1)


def _best(prediction: str, answers: Sequence[str], score: Callable[[str, str], float]) -> float:
    given = normalized_answer(prediction)
    right = [plain for plain in map(normalized_answer, answers) if plain]
    # A question without an answer is answered by nothing.
    return max(score(given, each) for each in right or [""])


def _word_f1(given: str, right: str) -> float:
    if not given or not right:
        return float(given == right)
    counts, wanted = Counter(given.split()), Counter(right.split())
    common = (counts & wanted).total()
    return 2 * common / (counts.total() + wanted.total())
