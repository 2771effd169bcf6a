"""A context in windows, each read with its question, and the answer that their logits say.

A context that is longer than fits is taken in windows that overlap, as in BERT's code for SQuAD
(Devlin et al. 2019); transformers' examples do the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexbert.tasks.encoded_texts import EncodedTexts, TextEncoder

# Where a window does not hold the whole answer: its [CLS].
CLS = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A part of a context.

    Attributes:
        start: its first character there.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character behind its last one."""
        return self.start + len(self.text)


def encode_windows(
    encoder: TextEncoder,
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[Sequence[Answer]],
    stride: int,
) -> EncodedTexts:
    """Windows of each question, which together hold every token of its context.

    A question is cut where it takes more than half of a sequence's room. A window's label is the
    places of the first answer's first and last token, or :data:`CLS` twice where the answer is not
    whole in the window, or there is none.

    Args:
        stride: tokens that windows overlap by, half a window at most.
    """
    template, room = encoder.template, encoder.room
    found = EncodedTexts()
    # Several questions are asked about one context.
    distinct = list(dict.fromkeys(contexts))
    made = encoder.tokens(distinct, return_offsets_mapping=True)
    places = [np.array(each, np.int32).reshape(-1, 2) for each in made["offset_mapping"]]
    read = dict(zip(distinct, zip(made["input_ids"], places, strict=True), strict=True))
    for question, text, right in zip(
        encoder.tokens(questions)["input_ids"], contexts, answers, strict=True
    ):
        context, offsets = read[text]
        kept = template.cut(question, room // 2)
        found.cut += len(kept) < len(question)
        span = _span(offsets, right[0]) if right else None
        before = len(template.before) + len(kept) + len(template.between)
        windows = window_borders(len(context), room - len(kept), stride)
        found.counts.append(len(windows))
        for begin, end in windows:
            found.add(template.around(kept, context[begin:end]))
            covered = np.full((len(found.tokens[-1]), 2), -1, np.int32)
            covered[before : before + end - begin] = offsets[begin:end]
            found.offsets.append(covered)
            is_whole = span is not None and begin <= span[0] and span[1] < end
            place = np.array(span) + before - begin if is_whole else np.array([CLS, CLS])
            found.labels.append(place.reshape(1, 2))
    return found


def window_borders(tokens: int, width: int, stride: int) -> list[tuple[int, int]]:
    """Where windows of at most so many tokens begin and end; one where there is no token."""
    step = width - min(stride, width // 2)
    begins = range(0, max(1, tokens - width + step), step)
    return [(begin, min(begin + width, tokens)) for begin in begins]


def best_answer(
    scores: np.ndarray,
    offsets: np.ndarray,
    borders: Sequence[int],
    context: str,
    max_answer_length: int,
) -> tuple[str, float, float]:
    """The best answer in a question's windows, its score, and that of there being none.

    A span's score is the sum of its first token's logit to begin an answer and its last one's to
    end it; all spans of the context are looked at, not those between the best tokens alone. That of
    no answer is the [CLS]'s, in the window where it is least.

    Args:
        scores: ``[T, 2]``, of all windows.
        offsets: the characters of the context that each token covers ``[T, 2]``, -1 and -1 for a
            token of none.
        borders: where each window begins, and T.
        max_answer_length: of a span, in tokens.
    """
    best, answer, none = -np.inf, "", np.inf
    for begin, end in itertools.pairwise(borders):
        none = min(none, float(scores[begin : begin + 1].sum()))
        places = begin + np.flatnonzero(offsets[begin:end, 0] < offsets[begin:end, 1])
        first, last = scores[places, 0], scores[places, 1]
        for more in range(min(max_answer_length, len(places))):
            sums = first[: len(first) - more] + last[more:]
            at = int(sums.argmax())
            if sums[at] > best:
                best = float(sums[at])
                answer = context[offsets[places[at], 0] : offsets[places[at + more], 1]]
    # A token may cover the space before its word.
    return answer.strip(), best, none


def _span(offsets: np.ndarray, answer: Answer) -> tuple[int, int] | None:
    """The first and the last token that cover any of an answer; None if there is none."""
    begins, ends = offsets[:, 0], offsets[:, 1]
    covers = (begins < answer.end) & (ends > answer.start) & (begins < ends)
    places = np.flatnonzero(covers)
    return (int(places[0]), int(places[-1])) if len(places) else None
