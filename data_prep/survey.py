"""Counts of documents and tokens: by length, by label, and above the usual context lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from data_prep.selection import Chosen

# Lengths from which a bin of the histogram begins, two to the octave: 1, 2, 3, 4, 6, 8, 12, ...
BINS = np.array(sorted({1 << n for n in range(32)} | {3 << n for n in range(31)}), np.int64)
CONTEXT_LENGTHS = (512, 1024, 2048, 4096, 8192)


class LengthCounts:
    """A histogram of lengths in tokens, and how much stands in long documents.

    Attributes:
        documents: number of documents by bin of ``BINS``, int64; ``tokens`` the same of tokens.
        longer: for each of ``CONTEXT_LENGTHS``, documents that are longer and their tokens.
    """

    def __init__(self) -> None:
        self.documents = np.zeros(len(BINS), np.int64)
        self.tokens = np.zeros(len(BINS), np.int64)
        self.longer = np.zeros((len(CONTEXT_LENGTHS), 2), np.int64)

    def add(self, lengths: np.ndarray) -> None:
        bins = np.searchsorted(BINS, lengths, side="right") - 1
        self.documents += np.bincount(bins, minlength=len(BINS))
        # Sums of a block's lengths are exact in float64, which bincount adds in.
        self.tokens += np.bincount(bins, lengths, minlength=len(BINS)).astype(np.int64)
        for number, context in enumerate(CONTEXT_LENGTHS):
            longer = lengths[lengths > context]
            self.longer[number] += (len(longer), longer.sum(dtype=np.int64))

    def __add__(self, other: LengthCounts) -> LengthCounts:
        both = LengthCounts()
        both.documents = self.documents + other.documents
        both.tokens = self.tokens + other.tokens
        both.longer = self.longer + other.longer
        return both

    def histogram(self) -> dict[str, list[int]]:
        """``bins[k]`` to below ``bins[k + 1]`` tokens: how many documents and tokens; plain JSON.

        Empty bins at both ends are left out, so there is one more of ``bins`` than of the others.
        """
        filled = np.flatnonzero(self.documents)
        begin, end = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        bounds = [*BINS.tolist(), 1 << 32]
        return {
            "bins": bounds[begin : end + 1],
            "documents": self.documents[begin:end].tolist(),
            "tokens": self.tokens[begin:end].tolist(),
        }

    def long_documents(self) -> dict[str, dict[str, float]]:
        """By context length: the documents that are longer and their share of all tokens."""
        total = int(self.tokens.sum())
        return {
            str(context): {
                "documents": int(documents),
                "tokens": int(tokens),
                "token_share": int(tokens) / total if total else 0.0,
            }
            for context, (documents, tokens) in zip(CONTEXT_LENGTHS, self.longer, strict=True)
        }


@dataclass(kw_only=True)
class Survey:
    """What a split holds.

    Attributes:
        longest: number of tokens of its longest document.
        labels: (documents, tokens) by label; None where documents are not labelled.
        inputs: (documents, tokens) by input.
    """

    documents: int = 0
    tokens: int = 0
    longest: int = 0
    lengths: LengthCounts = field(default_factory=LengthCounts)
    labels: dict[str, tuple[int, int]] | None = None
    inputs: dict[str, tuple[int, int]] = field(default_factory=dict)


def survey(blocks: Iterable[Chosen]) -> Survey:
    """Count the documents of a split."""
    found = Survey()
    labels, inputs = NamedCounts(), NamedCounts()
    labelled = False
    for chosen in blocks:
        lengths = chosen.lengths
        found.documents += len(lengths)
        found.tokens += int(lengths.sum(dtype=np.int64))
        found.longest = max(found.longest, int(lengths.max()))
        found.lengths.add(lengths)
        part = chosen.block.part
        inputs.add(count_by_name(chosen.inputs, lengths, part.inputs))
        if chosen.labels is not None and part.labels is not None:
            labelled = True
            labels.add(count_by_name(chosen.labels, lengths, part.labels))
    if labelled:
        found.labels = labels.sorted()
    found.inputs = inputs.sorted()
    return found


class NamedCounts:
    """(documents, tokens) by label or input, added up."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def add(self, counts: Mapping[str, tuple[int, int]]) -> None:
        for name, (documents, tokens) in counts.items():
            self.documents[name] += documents
            self.tokens[name] += tokens

    def sorted(self) -> dict[str, tuple[int, int]]:
        return {name: (self.documents[name], self.tokens[name]) for name in sorted(self.documents)}


def count_by_name(
    numbers: np.ndarray, lengths: np.ndarray, names: Iterable[str]
) -> dict[str, tuple[int, int]]:
    """(documents, tokens) of each of ``names`` that occurs.

    Args:
        numbers: of each document's label, or input, among ``names``.
        lengths: number of tokens of each document.
    """
    names = list(names)
    if not names:
        return {}
    documents = np.bincount(numbers, minlength=len(names))
    tokens = np.bincount(numbers, lengths, minlength=len(names))
    return {
        name: (int(documents[number]), int(tokens[number]))
        for number, name in enumerate(names)
        if documents[number]
    }


def label_record(counts: dict[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Label counts as plain JSON."""
    return {
        name: {"documents": documents, "tokens": tokens}
        for name, (documents, tokens) in counts.items()
    }
