"""Pieces: what documents are cut into so that each fits one sequence.

A document of L tokens is cut into ceil(L / C) pieces of C tokens, the last one of what remains, C
being ``max_length`` less the two special tokens. Nothing is lost or repeated.
"""

from __future__ import annotations

import numpy as np

from flexbert.data.corpus import Split
from flexbert.data.corpus_format import CorpusError

NUM_SPECIALS = 2  # [CLS] before and [SEP] after


class Pieces:
    """The numbered pieces of a split.

    Piece number d below ``num_documents`` is the beginning of document d. The further pieces of
    long documents are numbered after those, document by document, so that only long documents cost
    memory.
    """

    def __init__(self, split: Split, max_length: int) -> None:
        if split.num_documents == 0:
            raise CorpusError(f"{split.folder}: this split has no documents")
        self.split = split
        self._content = max_length - NUM_SPECIALS
        self._long = np.flatnonzero(split.lengths > self._content)
        further = (split.lengths[self._long].astype(np.int64) - 1) // self._content
        self._further_ends = np.cumsum(further)

    def __len__(self) -> int:
        further = int(self._further_ends[-1]) if len(self._long) else 0
        return self.split.num_documents + further

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Document and first token of each piece, both int64."""
        documents = numbers.astype(np.int64)
        starts = np.zeros_like(documents)
        is_further = documents >= self.split.num_documents
        further = documents[is_further] - self.split.num_documents
        index = np.searchsorted(self._further_ends, further, side="right")
        documents[is_further] = self._long[index]
        # Counted back from the document's last piece.
        parts_after = self._further_ends[index] - further - 1
        last_part = (self.split.lengths[self._long[index]].astype(np.int64) - 1) // self._content
        starts[is_further] = (last_part - parts_after) * self._content
        return documents, starts

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """Tokens of each piece, special tokens included, int64."""
        documents, starts = self.locate(numbers)
        remaining = self.split.lengths[documents].astype(np.int64) - starts
        return np.minimum(remaining, self._content) + NUM_SPECIALS

    def sample(self, size: int) -> np.ndarray:
        """At most ``size`` piece numbers, spread evenly over the whole split."""
        size = min(size, len(self))
        return np.arange(size, dtype=np.int64) * len(self) // size
