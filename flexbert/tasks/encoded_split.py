"""A split's examples in tokens, and batches of them laid end to end, no padding anywhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from flexbert.config.training import IGNORE
from flexbert.nn.packed_batch import PackedBatch

# What has a label of its own.
LabelsOf = Literal["examples", "tokens", "sequences"]


@dataclass(frozen=True, kw_only=True)
class WindowTexts:
    """What answers are read off where a context is taken in windows.

    Attributes:
        offsets: the characters of its context that each token covers, int32 ``[N, 2]``; -1 and -1
            for a token of none.
        contexts: of each example ``[E]``.
        answers: right ones of each example ``[E]``; none where it has no answer.
        may_have_none: whether having no answer is to be predicted.
    """

    offsets: np.ndarray
    contexts: Sequence[str]
    answers: Sequence[Sequence[str]]
    may_have_none: bool


@dataclass(frozen=True, kw_only=True)
class TaskBatch:
    """Some examples as the model takes them, with their labels.

    Attributes:
        labels: of each example, or of each token that has one ``[I]``; or the first and the last
            token of each sequence's answer ``[S, 2]``.
        labelled: the places of those tokens ``[I]``; None takes all outputs of the model.
        rows: how many of the outputs each label goes with, ``[I]`` or ``[S]``; None is one.
        counts: of the outputs, labelled ones alone, how many each example has ``[E]``.
    """

    packed: PackedBatch
    labels: torch.Tensor
    labelled: torch.Tensor | None
    rows: torch.Tensor | None
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """The examples of a split in tokens.

    Attributes:
        tokens: of all sequences, special tokens included, int32 ``[N]``.
        borders: where each sequence begins, and N, int64 ``[S + 1]``.
        token_types: uint8 ``[N]``; None for a model that has none.
        labels: of each example, int64 or float32 ``[E]``; of each token, int64 ``[N]``; or of each
            sequence, the places of two of its tokens, int64 ``[S, 2]``.
        sequences: how many each example has ``[E]``; None is one.
        cut: sequences that were longer than ``max_length``; of windows, questions that were cut.
        labels_of: what labels are those of.
        windows: where contexts are taken in windows, what answers are read off.
    """

    tokens: np.ndarray
    borders: np.ndarray
    token_types: np.ndarray | None
    labels: np.ndarray
    sequences: np.ndarray | None
    cut: int
    labels_of: LabelsOf
    windows: WindowTexts | None = None

    @functools.cached_property
    def firsts(self) -> np.ndarray:
        """Where the sequences of each example begin, and S ``[E + 1]``."""
        if self.sequences is None:
            return np.arange(len(self.borders))
        return np.concatenate([[0], self.sequences.cumsum()])

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
        labelled, rows = None, None
        if self.labels_of == "tokens":
            labels = self.labels[where]
            labelled = np.flatnonzero(labels != IGNORE)
            counts = np.diff(np.searchsorted(labelled, borders))
            labels = labels[labelled]
        elif self.labels_of == "sequences":
            labels, rows, counts = self.labels[sequences], lengths, self.lengths[examples]
        else:
            labels, counts = self.labels[examples], last - first
            rows = None if self.sequences is None else counts

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
            rows=None if rows is None else there(rows),
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
