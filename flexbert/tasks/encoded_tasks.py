"""A split in a model's tokens, and batches of it: examples laid end to end, no padding anywhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from flexbert.errors import UserError
from flexbert.nn.packed_batch import PackedBatch
from flexbert.tasks.kinds.kind import IGNORE, Examples, TaskKind
from flexbert.tasks.text_template import TextTemplate, pair_lengths, text_template

# Texts given to the tokenizer at once: enough for its threads, few enough for memory.
_AT_ONCE = 4096
# A sequence's tokens and their types.
_Sequence = tuple[list[int], list[int]]


@dataclass(frozen=True, kw_only=True)
class TaskBatch:
    """Some examples as the model takes them, with their labels.

    Attributes:
        labels: of each example, or of each token that has one ``[I]``.
        labelled: the places of those tokens ``[I]``; None where labels are of examples.
        choices: how many sequences each example has ``[E]``; None is one.
        counts: of the model's outputs, labelled ones alone, how many each example has ``[E]``.
    """

    packed: PackedBatch
    labels: torch.Tensor
    labelled: torch.Tensor | None
    choices: torch.Tensor | None
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """The examples of a split in tokens.

    Attributes:
        tokens: of all sequences, special tokens included, int32 ``[N]``.
        borders: where each sequence begins, and N, int64 ``[S + 1]``.
        token_types: uint8 ``[N]``; None for a model that has none.
        labels: of each example, int64 or float32 ``[E]``; or of each token, int64 ``[N]``.
        choices: how many sequences each example has ``[E]``; None is one.
        cut: sequences that were longer than ``max_length``.
        per_token: whether labels are those of tokens.
    """

    tokens: np.ndarray
    borders: np.ndarray
    token_types: np.ndarray | None
    labels: np.ndarray
    choices: np.ndarray | None
    cut: int
    per_token: bool

    @functools.cached_property
    def firsts(self) -> np.ndarray:
        """Where the sequences of each example begin, and S ``[E + 1]``."""
        counts = np.ones(len(self.borders) - 1, np.int64) if self.choices is None else self.choices
        return np.concatenate([[0], counts.cumsum()])

    def __len__(self) -> int:
        return len(self.firsts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example ``[E]``."""
        return np.diff(self.borders[self.firsts])

    def batch(self, examples: np.ndarray, device: torch.device) -> TaskBatch:
        """Some examples ``[E]`` in their order, on a device."""
        first, last = self.firsts[examples], self.firsts[examples + 1]
        sequences = ranges(first, last - first)
        starts, ends = self.borders[sequences], self.borders[sequences + 1]
        lengths = ends - starts
        where = ranges(starts, lengths)
        borders = np.concatenate([[0], lengths.cumsum()])
        types = None if self.token_types is None else self.token_types[where].astype(np.int64)
        labels, labelled = self.labels[where if self.per_token else examples], None
        counts = last - first
        if self.per_token:
            labelled = np.flatnonzero(labels != IGNORE)
            counts = np.diff(np.searchsorted(labelled, borders))
            labels = labels[labelled]

        def there(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).to(device)

        return TaskBatch(
            packed=PackedBatch(
                tokens=there(self.tokens[where].astype(np.int64)),
                cu_seqlens=there(borders.astype(np.int32)),
                max_seqlen=int(lengths.max()),
                position_ids=there(np.arange(len(where)) - np.repeat(borders[:-1], lengths)),
                token_types=None if types is None else there(types),
            ),
            labels=there(labels),
            labelled=None if labelled is None else there(labelled),
            choices=None if self.choices is None else there(self.choices[examples]),
            counts=counts,
        )

    def within(self, examples: np.ndarray, most_tokens: int) -> Iterator[np.ndarray]:
        """The examples in their order, in parts of at most so many tokens; one at least in each."""
        ends = self.lengths[examples].cumsum()
        begin = 0
        while begin < len(examples):
            done = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + most_tokens, side="right")))
            yield examples[begin:end]
            begin = end


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``starts[i], starts[i] + 1, ...`` of ``lengths[i]`` numbers for every i, end to end."""
    ends = lengths.cumsum()
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def encode_split(
    examples: Examples, kind: TaskKind, tokenizer: Any, max_length: int, *, token_types: bool
) -> EncodedSplit:
    """Examples in a model's tokens.

    Args:
        tokenizer: a fast one of transformers.
        max_length: of a sequence, special tokens included; of pairs the longer text is cut first.
        token_types: whether the model has them.
    """
    template = text_template(tokenizer, pairs=examples.second is not None)
    tokens: list[np.ndarray] = []
    types: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    lengths: list[int] = []
    cut = 0
    for begin in range(0, len(examples.first), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        if kind.of_words:
            encoded, own, is_cut = _encode_words(examples, some, tokenizer, template, max_length)
            labels += own
        else:
            encoded, is_cut = _encode_texts(examples, some, tokenizer, template, max_length)
        cut += is_cut
        for ids, types_of in encoded:
            lengths.append(len(ids))
            tokens.append(np.array(ids, np.int32))
            types.append(np.array(types_of, np.uint8))
    flat_labels = np.concatenate(labels) if kind.of_words else np.array(examples.labels)
    is_number = flat_labels.dtype.kind == "f"
    return EncodedSplit(
        tokens=np.concatenate(tokens),
        borders=np.concatenate([[0], np.cumsum(lengths)]),
        token_types=np.concatenate(types) if token_types else None,
        labels=flat_labels.astype(np.float32 if is_number else np.int64),
        choices=None if examples.choices is None else np.array(examples.choices, np.int64),
        cut=cut,
        per_token=kind.per_token,
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


def _encode_texts(
    examples: Examples, some: slice, tokenizer: Any, template: TextTemplate, max_length: int
) -> tuple[list[_Sequence], int]:
    room = max_length - template.size
    firsts = _tokens(tokenizer, [str(text) for text in examples.first[some]])["input_ids"]
    if examples.second is None:
        alone = [template.around(template.cut(ids, room), None) for ids in firsts]
        return alone, sum(len(ids) > room for ids in firsts)
    seconds = _tokens(tokenizer, list(examples.second[some]))["input_ids"]
    sequences: list[_Sequence] = []
    cut = 0
    for first, second in zip(firsts, seconds, strict=True):
        most, other = pair_lengths(len(first), len(second), room)
        sequences.append(template.around(template.cut(first, most), template.cut(second, other)))
        cut += len(first) + len(second) > room
    return sequences, cut


def _encode_words(
    examples: Examples, some: slice, tokenizer: Any, template: TextTemplate, max_length: int
) -> tuple[list[_Sequence], list[np.ndarray], int]:
    """Words with one space between, as text has them, and the label of a word's first token.

    A tokenizer that is given words by themselves makes other tokens of them than of a text.
    """
    room = max_length - template.size
    words: Any = examples.first[some]
    found = _tokens(tokenizer, [" ".join(own) for own in words], return_offsets_mapping=True)
    sequences: list[_Sequence] = []
    labels: list[np.ndarray] = []
    for own, classes, ids, offsets in zip(
        words, examples.labels[some], found["input_ids"], found["offset_mapping"], strict=True
    ):
        sequences.append(template.around(template.cut(ids, room), None))
        placed = word_labels(own, classes, np.array(offsets).reshape(-1, 2))
        labels.append(
            np.pad(
                template.cut(placed, room),  # type: ignore[arg-type]
                (len(template.before), len(template.after)),
                constant_values=IGNORE,
            )
        )
    return sequences, labels, sum(len(ids) > room for ids in found["input_ids"])


def _tokens(tokenizer: Any, texts: list[str], **asked: bool) -> Any:
    return tokenizer(
        texts,
        add_special_tokens=False,
        truncation=False,
        return_token_type_ids=False,
        return_attention_mask=False,
        verbose=False,
        **asked,
    )


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
