"""A split's texts in a model's tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from flexbert.errors import UserError
from flexbert.tasks.encoded_split import EncodedSplit, WindowTexts
from flexbert.tasks.encoded_texts import EncodedTexts, TextEncoder
from flexbert.tasks.kinds.kind import Examples, TaskKind
from flexbert.tasks.text_template import text_template

# Texts given to the tokenizer at once: enough for its threads, few enough for memory.
_AT_ONCE = 4096


def encode_split(
    examples: Examples, kind: TaskKind, tokenizer: Any, max_length: int, *, token_types: bool
) -> EncodedSplit:
    """Examples in a model's tokens.

    Args:
        tokenizer: a fast one of transformers.
        max_length: of a sequence, special tokens included.
        token_types: whether the model has them.
    """
    template = text_template(tokenizer, pairs=examples.second is not None)
    encoder = TextEncoder(tokenizer=tokenizer, template=template, max_length=max_length)
    found = EncodedTexts()
    for begin in range(0, len(examples.first), _AT_ONCE):
        found.extend(kind.encode(encoder, examples, slice(begin, begin + _AT_ONCE)))
    is_own = kind.labels_of == "examples"
    labels = np.array(examples.labels) if is_own else np.concatenate(found.labels)
    is_number = labels.dtype.kind == "f"
    sequences = found.counts or examples.choices
    return EncodedSplit(
        tokens=np.concatenate(found.tokens),
        borders=np.cumsum([0, *map(len, found.tokens)]),
        token_types=np.concatenate(found.types) if token_types else None,
        labels=labels.astype(np.float32 if is_number else np.int64),
        sequences=None if sequences is None else np.array(sequences, np.int64),
        cut=found.cut,
        labels_of=kind.labels_of,
        windows=_windows(examples, found.offsets),
    )


def _windows(examples: Examples, offsets: list[np.ndarray]) -> WindowTexts | None:
    if not offsets:
        return None
    assert examples.second is not None
    return WindowTexts(
        offsets=np.concatenate(offsets),
        contexts=examples.second,
        answers=[[answer.text for answer in answers] for answers in examples.labels],
        may_have_none=bool(examples.names),
    )


def check_tokenizer(tokenizer: Any, model: str, max_length: int, *, pairs: bool) -> None:
    """Raises UserError if a tokenizer puts no [CLS] before and no [SEP] behind each text, or if
    these leave no room for one.
    """
    for role in ("cls", "sep"):
        if getattr(tokenizer, f"{role}_token_id", None) is None:
            raise UserError(f"{model}: its tokenizer has no [{role.upper()}]")
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    single = tokenizer("a")["input_ids"]
    if single[:1] != [cls] or single[-1] != sep:
        raise UserError(f"{model}: its tokenizer puts no [CLS] and [SEP] around a text")
    if pairs and tokenizer("a", "a")["input_ids"][1:].count(sep) < 2:
        raise UserError(f"{model}: its tokenizer puts no [SEP] between two texts")
    if max_length - text_template(tokenizer, pairs=pairs).size < 1 + pairs:
        raise UserError(
            f"{model}: max_length {max_length} has no room for {'two texts' if pairs else 'a text'}"
            " between its special tokens"
        )
