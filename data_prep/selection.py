"""Which documents stand in which split: the rule, and their tokens in order.

A document is held out when the hash of its text is small. So equal documents land in one split,
whatever their order. The smallest hash is always held out: a small corpus has a validation split
too. All is read from the parts, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_prep.duplicates import Repeats
from data_prep.parts import DocumentBlock, Part


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The documents of a block that stand in a split.

    Attributes:
        mask: which of the block's documents they are.
    """

    block: DocumentBlock
    mask: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.block.lengths[self.mask]

    @property
    def labels(self) -> np.ndarray | None:
        """Numbers of the labels among those of the block's part."""
        return None if self.block.labels is None else self.block.labels[self.mask]

    @property
    def inputs(self) -> np.ndarray:
        """Numbers of the inputs among those of the block's part."""
        return self.block.inputs[self.mask]

    def tokens(self, dtype: np.dtype) -> np.ndarray:
        return self.block.tokens(dtype, self.mask)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The documents of one split.

    Attributes:
        held_out: whether it is the validation split.
        threshold: the largest hash of a document that is held out.
        repeats: documents to leave out, if any.
    """

    parts: Sequence[Part]
    held_out: bool
    threshold: int
    repeats: Repeats | None

    @classmethod
    def splits(
        cls, parts: Sequence[Part], *, validation: float, repeats: Repeats | None
    ) -> dict[str, Selection]:
        """Both splits of some parts, which hold at least one document."""
        smallest = min(part.smallest_hash for part in parts if part.smallest_hash is not None)
        threshold = max(int(validation * 2.0**64), smallest)
        return {
            name: cls(parts=parts, held_out=held_out, threshold=threshold, repeats=repeats)
            for name, held_out in (("train", False), ("validation", True))
        }

    @cached_property
    def first_documents(self) -> np.ndarray:
        """The number of each part's first document, before any is left out."""
        return np.cumsum([0] + [part.documents for part in self.parts])

    def blocks(self, part: int) -> Iterator[Chosen]:
        """The documents of one part that stand in this split."""
        number = int(self.first_documents[part])
        for block in self.parts[part].blocks():
            mask = (block.hashes <= np.uint64(self.threshold)) == self.held_out
            if self.repeats is not None:
                mask &= ~self.repeats.flags[number : number + len(mask)]
            number += len(mask)
            if mask.any():
                yield Chosen(block=block, mask=mask)

    def all_blocks(self) -> Iterator[Chosen]:
        """The documents of all parts that stand in this split, in order."""
        for part in range(len(self.parts)):
            yield from self.blocks(part)
