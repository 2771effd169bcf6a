"""Chunks: what documents are cut into so that each fits one sequence.

A document of L tokens is cut into ceil(L / C) chunks of C tokens, the last one of what remains, C
being ``max_length`` less the two special tokens. Nothing is lost or repeated. Where the last chunk
would have fewer than ``merge_below`` tokens, it and the one before are cut in two halves instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.permutation import number_dtype
from flexbert.data.sampling.random_keys import derive_key
from flexbert.data.sampling.subset import Subset
from flexbert.files.node_arrays import IN_MEMORY, node_array

NUM_SPECIALS = 2  # [CLS] before and [SEP] after
_AT_ONCE = 1 << 24  # documents looked at together


@dataclass(frozen=True)
class Cut:
    """How documents become chunks.

    Attributes:
        max_length: tokens of a chunk at most, special tokens included.
        merge_below: tokens of a last chunk at least, unless its document is that short.
    """

    max_length: int
    merge_below: int = 0

    @property
    def content(self) -> int:
        """Tokens of a document in a full chunk."""
        return self.max_length - NUM_SPECIALS

    def further_chunks(self, lengths: np.ndarray) -> np.ndarray:
        """How many chunks follow the first in documents of these lengths (int64)."""
        return (lengths.astype(np.int64) - 1) // self.content

    def bounds(self, lengths: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First token and number of tokens of the ``parts``-th chunks of documents (all int64)."""
        content = self.content
        lasts = self.further_chunks(lengths)
        starts = parts * content
        ends = np.minimum(starts + content, lengths)
        if self.merge_below:
            remainders = lengths - lasts * content
            halved = (lasts > 0) & (remainders < self.merge_below)
            middles = lengths - (content + remainders) // 2
            starts = np.where(halved & (parts == lasts), middles, starts)
            ends = np.where(halved & (parts == lasts - 1), middles, ends)
        return starts, ends - starts


class Chunks:
    """The numbered chunks of a split, or of some of its documents.

    Chunk number i below ``num_documents`` is the beginning of the i-th document. The further chunks
    of long documents are numbered after those, document by document, so that only long documents
    cost memory; of large splits they are kept in files that a node's processes share.

    Attributes:
        num_tokens: of all chunks, special tokens included.
    """

    def __init__(
        self, split: Split, cut: Cut, subset: Subset | None = None, cache: Path | None = None
    ) -> None:
        """
        Args:
            subset: the documents to take; all unless given.
            cache: folder for shared files; without one, everything is made in memory.

        Raises:
            CorpusError: if there are no documents, or the split's files contradict each other.
        """
        split.require_documents()
        self.split = split
        self.cut = cut
        self._documents = None if subset is None else subset.documents(split, cache)
        self.num_documents = (
            split.num_documents if self._documents is None else len(self._documents)
        )
        shared = None
        if cache is not None and self.num_documents > IN_MEMORY:
            documents = "" if subset is None else subset.key(split)
            key = derive_key("long documents", split.fingerprint, documents, cut.max_length)
            shared = cache / f"{key:032x}"
        self._long, self._further_ends = self._find_long(shared)
        tokens = split.num_tokens
        if subset is not None:
            tokens = subset.num_tokens(split, cache)
        self.num_tokens = tokens + NUM_SPECIALS * len(self)

    def __len__(self) -> int:
        further = int(self._further_ends[-1]) if len(self._long) else 0
        return self.num_documents + further

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document, first token and number of tokens of each chunk, all int64."""
        indices = numbers.astype(np.int64)
        parts = np.zeros_like(indices)
        is_further = indices >= self.num_documents
        if is_further.any():
            further = indices[is_further] - self.num_documents
            where = np.searchsorted(self._further_ends, further, side="right")
            indices[is_further] = self._long[where]
            # Counted back from the document's last chunk.
            lasts = self.cut.further_chunks(self._lengths(indices[is_further]))
            parts[is_further] = lasts - (self._further_ends[where].astype(np.int64) - further - 1)
        lengths = self._lengths(indices)
        starts, counts = self.cut.bounds(lengths, parts)
        return self._numbers_in_split(indices), starts, counts

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """Tokens of each chunk, special tokens included, int64."""
        return self.locate(numbers)[2] + NUM_SPECIALS

    def of_documents(self, first: int, end: int) -> np.ndarray:
        """The numbers of all chunks of the documents ``first`` up to ``end`` of the split.

        Beginnings come first, then further chunks, each in the order of documents.
        """
        beginnings, further = self._ranges(first, end)
        dtype = number_dtype(len(self))
        return np.concatenate(
            [np.arange(*beginnings, dtype=dtype), np.arange(*further, dtype=dtype)]
        )

    def num_of_documents(self, first: int, end: int) -> int:
        """How many chunks :meth:`of_documents` gives."""
        return sum(stop - begin for begin, stop in self._ranges(first, end))

    def _ranges(self, first: int, end: int) -> tuple[tuple[int, int], tuple[int, int]]:
        if self._documents is not None:
            first, end = np.searchsorted(self._documents, (first, end)).tolist()
        begin, stop = (
            self.num_documents + (int(self._further_ends[index - 1]) if index else 0)
            for index in np.searchsorted(self._long, (first, end)).tolist()
        )
        return (first, end), (begin, stop)

    def sample(self, size: int) -> np.ndarray:
        """At most ``size`` chunk numbers, spread evenly over all."""
        size = min(size, len(self))
        return np.arange(size, dtype=np.int64) * len(self) // size

    def _lengths(self, indices: np.ndarray) -> np.ndarray:
        return self.split.lengths[self._numbers_in_split(indices)].astype(np.int64)

    def _numbers_in_split(self, indices: np.ndarray) -> np.ndarray:
        if self._documents is None:
            return indices
        return self._documents[indices].astype(np.int64)

    def _find_long(self, shared: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """Which documents have further chunks, and where each one's end among those of all."""
        index_dtype = number_dtype(self.num_documents)
        count_dtype = np.dtype(np.int64)
        if shared is None:
            found = list(self._long_documents())
            return (
                np.concatenate([long for long, _ in found]).astype(index_dtype),
                np.cumsum(np.concatenate([further for _, further in found]), dtype=count_dtype),
            )

        def write_long(out: BinaryIO) -> None:
            self.split.check_lengths()
            for long, _ in self._long_documents():
                out.write(long.astype(index_dtype).data)

        def write_ends(out: BinaryIO) -> None:
            end = 0
            for _, further in self._long_documents():
                ends = end + np.cumsum(further, dtype=count_dtype)
                out.write(ends.data)
                end = int(ends[-1]) if len(ends) else end

        return (
            node_array(shared.with_suffix(".long"), index_dtype, write_long),
            node_array(shared.with_suffix(".ends"), count_dtype, write_ends),
        )

    def _long_documents(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin in range(0, self.num_documents, _AT_ONCE):
            end = min(begin + _AT_ONCE, self.num_documents)
            documents = slice(begin, end) if self._documents is None else self._documents[begin:end]
            lengths = self.split.lengths[documents]
            long = np.flatnonzero(lengths > self.cut.content)
            yield long + begin, self.cut.further_chunks(lengths[long])
