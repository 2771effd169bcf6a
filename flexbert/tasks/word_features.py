"""Features of words in their sentences, for a linear model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# Names of features are hashed to this many, so that memory is bounded.
_HASHED_FEATURES = 1 << 16
_LONGEST_WORD = 100


def word_features(sequences: Sequence[Sequence[str]]) -> Any:
    """Each word by itself, its shape, beginning and ending, and two neighbours on each side.

    Returns:
        sparse ``[words, features]``, the sequences end to end.
    """
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(_HASHED_FEATURES, input_type="string")
    # It refuses to make nothing of nothing.
    rows = hasher.transform([*_features(sequences), ["end"]])
    return rows[: rows.shape[0] - 1]


def _features(sequences: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    for words in sequences:
        # An edge is a word of its own, which no word is.
        lower = ["\n", "\n", *(word[:_LONGEST_WORD].lower() for word in words), "\n", "\n"]
        for place, word in enumerate(words, start=2):
            own = lower[place]
            yield [
                f"word {own}",
                f"shape {_shape(word)}",
                *(f"begin {own[:length]}" for length in (1, 2, 3)),
                *(f"end {own[-length:]}" for length in (1, 2, 3)),
                *(f"at {step} {lower[place + step]}" for step in (-2, -1, 1, 2)),
                f"both {lower[place - 1]} {own}",
                f"next {own} {lower[place + 1]}",
            ]


def _shape(word: str) -> str:
    """Upper case, lower case and digits as letters that stand for them, runs as one."""
    kinds = (
        "X" if c.isupper() else "x" if c.isalpha() else "9" if c.isdigit() else c for c in word
    )
    shape = ""
    for kind in kinds:
        if not shape.endswith(kind):
            shape += kind
        if len(shape) >= 20:
            break
    return shape
