"""Texts, and words with their classes, as a model's sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flexbert.config.training import IGNORE
from flexbert.tasks.text_template import TextTemplate, pair_lengths


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """Makes tokens of texts.

    Attributes:
        tokenizer: a fast one of transformers.
        max_length: of a sequence, special tokens included.
    """

    tokenizer: Any
    template: TextTemplate
    max_length: int

    @property
    def room(self) -> int:
        """Tokens of a sequence that are not special."""
        return self.max_length - self.template.size

    def tokens(self, texts: Sequence[str], **asked: bool) -> Any:
        """What the tokenizer makes of texts, whole and without special tokens."""
        return self.tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=False,
            return_token_type_ids=False,
            return_attention_mask=False,
            verbose=False,
            **asked,
        )


@dataclass(kw_only=True)
class EncodedTexts:
    """Some examples in tokens, by sequence.

    Attributes:
        tokens, types: of each sequence, int32 and uint8.
        labels: of each sequence, or of its tokens, where the examples have none of their own.
        offsets: of each sequence where answers are read off its context; see
            :class:`~flexbert.tasks.encoded_split.WindowTexts`.
        counts: sequences of each example where the encoding decides it.
        cut: texts that are not whole.
    """

    tokens: list[np.ndarray] = field(default_factory=list)
    types: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    cut: int = 0

    def add(self, sequence: tuple[list[int], list[int]]) -> None:
        """A sequence's tokens and their types."""
        self.tokens.append(np.array(sequence[0], np.int32))
        self.types.append(np.array(sequence[1], np.uint8))

    def extend(self, more: EncodedTexts) -> None:
        """The examples that come behind."""
        for name in ("tokens", "types", "labels", "offsets", "counts"):
            getattr(self, name).extend(getattr(more, name))
        self.cut += more.cut


def encode_texts(
    encoder: TextEncoder, first: Sequence[str], second: Sequence[str] | None
) -> EncodedTexts:
    """A sequence of each text, or of each pair, of which the longer text is cut first."""
    room, template = encoder.room, encoder.template
    found = EncodedTexts()
    firsts = encoder.tokens([str(text) for text in first])["input_ids"]
    if second is None:
        for ids in firsts:
            found.add(template.around(template.cut(ids, room), None))
            found.cut += len(ids) > room
        return found
    for one, two in zip(firsts, encoder.tokens(second)["input_ids"], strict=True):
        most, other = pair_lengths(len(one), len(two), room)
        found.add(template.around(template.cut(one, most), template.cut(two, other)))
        found.cut += len(one) + len(two) > room
    return found


def encode_words(
    encoder: TextEncoder, words: Sequence[Sequence[str]], classes: Sequence[Sequence[int]]
) -> EncodedTexts:
    """Words with one space between, as text has them, and the label of a word's first token.

    A tokenizer that is given words by themselves makes other tokens of them than of a text.
    """
    room, template = encoder.room, encoder.template
    found = EncodedTexts()
    made = encoder.tokens([" ".join(own) for own in words], return_offsets_mapping=True)
    for own, labels, ids, offsets in zip(
        words, classes, made["input_ids"], made["offset_mapping"], strict=True
    ):
        found.add(template.around(template.cut(ids, room), None))
        found.cut += len(ids) > room
        placed = word_labels(own, labels, np.array(offsets).reshape(-1, 2))
        found.labels.append(
            np.pad(
                template.cut(placed, room),  # type: ignore[arg-type]
                (len(template.before), len(template.after)),
                constant_values=IGNORE,
            )
        )
    return found


def word_labels(words: Sequence[str], classes: Sequence[int], offsets: np.ndarray) -> np.ndarray:
    """The class of a word at its first token, and ``IGNORE`` elsewhere ``[T]``.

    Args:
        offsets: the characters that each token covers of the joined words ``[T, 2]``.
    """
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    labels = np.full(len(offsets), IGNORE, np.int64)
    # A token may begin with the space before its word; one of the space alone is of no word.
    begins = offsets[:, 0] + np.isin(offsets[:, 0], ends)
    covers = np.flatnonzero(begins < offsets[:, 1])
    own = np.searchsorted(ends, begins[covers], side="right")
    taken, first = np.unique(own, return_index=True)
    labels[covers[first]] = np.array(classes, np.int64)[taken]
    return labels
