"""Documents in blocks that fit into memory, and those of a finished split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from flexbert.data.reading.corpus import Split

# What is in memory at a time: the lengths (and hashes) of this many documents, and this many
# tokens, or one document that is longer.
BLOCK_DOCUMENTS = 1 << 16
BLOCK_TOKENS = 1 << 20


def block_bounds(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """(begin, end) of runs of documents with about ``BLOCK_TOKENS`` tokens."""
    ends = np.cumsum(lengths, dtype=np.int64)
    cuts = np.flatnonzero(np.diff(ends // BLOCK_TOKENS)) + 1
    yield from pairwise([0, *cuts.tolist(), len(lengths)])


def read_blocks(split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens of consecutive documents one after the other, lengths) of a whole split, in order."""
    for first in range(0, split.num_documents, BLOCK_DOCUMENTS):
        lengths = np.asarray(split.lengths[first : first + BLOCK_DOCUMENTS]).astype(np.int64)
        for begin, end in block_bounds(lengths):
            documents = np.arange(first + begin, first + end)
            some = lengths[begin:end]
            yield split.gather(documents, np.zeros_like(some), some), some


def read_documents(split: Split) -> Iterator[np.ndarray]:
    """The token ids of each document of a split, in order."""
    for tokens, lengths in read_blocks(split):
        yield from np.split(tokens, np.cumsum(lengths)[:-1])


def with_borders(split: Split) -> Iterator[np.ndarray]:
    """Each document of a split between [CLS] and [SEP], as a network sees it."""
    special = split.meta.special_ids
    for document in read_documents(split):
        yield np.concatenate([[special.cls], document, [special.sep]]).astype(split.meta.dtype)
