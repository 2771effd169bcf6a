"""Which texts occurred before, nearly word for word.

A text is the set of its runs of five words. If half of a text's runs occurred before, in whichever
texts, it counts as repeated: copies with some names changed, and paragraphs put together from
others. Case and punctuation do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import xxhash

RUN_WORDS = 5
MOST_REPEATED = 0.5
# Odd, so that every word of a run matters to its hash.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORD = re.compile(r"\w+")


class RepeatedText:
    """The runs of all texts that were added, as sorted 64-bit hashes: 8 bytes a run."""

    def __init__(self) -> None:
        self._seen = np.empty(0, np.uint64)
        self._word_hashes: dict[str, int] = {}

    def add(self, texts: Iterable[str]) -> None:
        runs, _ = self._runs(list(texts))
        self._seen = np.union1d(self._seen, runs)

    def repeated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether at least half of its runs are in texts that were added.

        A text without a word is repeated.
        """
        runs, counts = self._runs(texts)
        if not len(self._seen):
            return [count == 0 for count in counts]
        places = np.searchsorted(self._seen, runs)
        is_seen = self._seen[np.minimum(places, len(self._seen) - 1)] == runs
        sums = np.concatenate([[0], np.cumsum(is_seen)])
        ends = np.cumsum(counts)
        found = sums[ends] - sums[ends - counts]
        return [bool(flag) for flag in found >= MOST_REPEATED * counts]

    def _runs(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the runs of all texts, one text after the other, and each text's number of them.

        A text of fewer words is one run.
        """
        lists = [_WORD.findall(text.lower()) for text in texts]
        lengths = np.array([len(words) for words in lists], np.int64)
        # Each text is filled up to a run with nothing, which is a word of its own.
        padded = np.where(lengths > 0, np.maximum(lengths, RUN_WORDS), 0)
        hashes = np.zeros(int(padded.sum()), np.uint64)
        starts = np.cumsum(padded) - padded
        for start, words in zip(starts.tolist(), lists, strict=True):
            hashes[start : start + len(words)] = [self._hash(word) for word in words]
        counts = np.maximum(padded - (RUN_WORDS - 1), 0)
        firsts = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        runs = np.zeros(len(firsts), np.uint64)
        for place in range(RUN_WORDS):
            runs = (runs + hashes[firsts + place]) * _FACTOR
        return runs, counts

    def _hash(self, word: str) -> int:
        found = self._word_hashes.get(word)
        if found is None:
            found = self._word_hashes[word] = xxhash.xxh3_64_intdigest(word) | 1
        return found


def first_of_each(texts: Sequence[str]) -> list[bool]:
    """Of each text, whether none before it has the same words."""
    seen: set[str] = set()
    firsts = []
    for text in texts:
        words = " ".join(_WORD.findall(text.lower()))
        firsts.append(words not in seen)
        seen.add(words)
    return firsts
