"""What a tokenizer puts around a text and between two, and where texts that are too long are cut.

Texts are cut here and not by the tokenizer: the library keeps what it cuts off, of a pair every
combination of both texts' remains, which took 2 GB and 13 s for two texts of 20,000 characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flexbert.errors import UserError

# Texts of which one at least is a token of whatever tokenizer.
_SAMPLES = ("a", "1", ".", "\u4e00")
_MOST_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class TextTemplate:
    """Special tokens of a sequence and the types of all its tokens.

    Attributes:
        before, between, after: special tokens; of one text none is between.
        types: of the tokens before, of the first text, between, of the second, and after.
        cut_left: whether texts lose their beginning, and not their end.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]
    cut_left: bool

    @property
    def size(self) -> int:
        """Special tokens of a sequence."""
        return len(self.before) + len(self.between) + len(self.after)

    def cut(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """So many tokens of a text."""
        if len(tokens) <= most:
            return tokens
        return tokens[len(tokens) - most :] if self.cut_left else tokens[:most]

    def around(
        self, first: Sequence[int], second: Sequence[int] | None
    ) -> tuple[list[int], list[int]]:
        """A sequence's tokens, and their types."""
        rest = second or ()
        before, of_first, between, of_second, after = self.types
        return (
            [*self.before, *first, *self.between, *rest, *self.after],
            [*before, *[of_first] * len(first), *between, *[of_second] * len(rest), *after],
        )


def text_template(tokenizer: Any, *, pairs: bool) -> TextTemplate:
    """The template of a fast tokenizer of transformers, read off what it makes of short texts.

    Raises:
        UserError: if it makes no token of any.
    """
    vocabulary = sorted(tokenizer.get_vocab(), key=len)[:_MOST_SAMPLES]
    for text in (*_SAMPLES, *vocabulary):
        found = tokenizer(text, text if pairs else None, return_token_type_ids=True)
        encoding = found.encodings[0]
        owners = encoding.sequence_ids
        if 0 in owners and (not pairs or 1 in owners):
            break
    else:
        raise UserError("the tokenizer makes no token of any text")
    ids, types = encoding.ids, found["token_type_ids"]
    begin, end = _extent(owners, 0)
    second, last = _extent(owners, 1) if pairs else (end, end)
    return TextTemplate(
        before=tuple(ids[:begin]),
        between=tuple(ids[end:second]),
        after=tuple(ids[last:]),
        types=(
            tuple(types[:begin]),
            types[begin],
            tuple(types[end:second]),
            types[second] if pairs else 0,
            tuple(types[last:]),
        ),
        cut_left=tokenizer.truncation_side == "left",
    )


def pair_lengths(first: int, second: int, most: int) -> tuple[int, int]:
    """How many tokens stay of each of two texts: the longer one is cut first.

    As Hugging Face's tokenizers do it (``longest_first``).
    """
    if first + second <= most:
        return first, second
    shorter = min(first, second)
    if 2 * shorter >= most:
        half, more = most // 2, most - most // 2
        return (half, more) if first <= second else (more, half)
    longer = most - shorter
    return (shorter, longer) if first <= second else (longer, shorter)


def _extent(owners: Sequence[int | None], text: int) -> tuple[int, int]:
    """Where a text's tokens begin and end."""
    places = [index for index, owner in enumerate(owners) if owner == text]
    return places[0], places[-1] + 1
