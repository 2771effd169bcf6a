"""Which texts occurred before, nearly word for word.

A text is the set of its runs of five words. If half of a text's runs occurred before, in whichever
texts, it counts as repeated: copies with some names changed, and paragraphs put together from
others. Case and punctuation do not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xxhash

RUN_WORDS = 5
MOST_REPEATED = 0.5
# Odd, so that every word of a run matters to its hash.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORD = re.compile(r"\w+")


class RepeatedText:
    """The runs of all texts so far, as sorted 64-bit hashes: 8 bytes a run."""

    def __init__(self) -> None:
        self._seen = np.empty(0, np.uint64)
        self._hashes = _WordHashes()

    def add(self, texts: Sequence[str]) -> list[bool]:
        """Add texts, and say of each whether it is new: whether it repeats no text added before.

        Those that are added together are not compared with each other. A text without a word is
        not new.
        """
        runs, counts = self._runs(texts)
        is_seen = np.zeros(len(runs), np.bool_)
        if len(self._seen):
            places = np.searchsorted(self._seen, runs)
            is_seen = self._seen[np.minimum(places, len(self._seen) - 1)] == runs
        self._seen = np.union1d(self._seen, runs)
        sums = np.concatenate([[0], np.cumsum(is_seen)])
        ends = np.cumsum(counts)
        found = sums[ends] - sums[ends - counts]
        return [bool(flag) for flag in found < MOST_REPEATED * counts]

    def _runs(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the runs of all texts, one text after the other, and how many each text has.

        A text of fewer words is one run.
        """
        lists = [_WORD.findall(text.lower()) for text in texts]
        lengths = np.array([len(words) for words in lists], np.int64)
        # Each text is filled up to a run with nothing, which is a word of its own.
        padded = np.where(lengths > 0, np.maximum(lengths, RUN_WORDS), 0)
        hashes = np.zeros(int(padded.sum()), np.uint64)
        starts = np.cumsum(padded) - padded
        known = self._hashes
        for start, words in zip(starts.tolist(), lists, strict=True):
            hashes[start : start + len(words)] = [known[word] for word in words]
        counts = np.maximum(padded - (RUN_WORDS - 1), 0)
        firsts = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        runs = np.zeros(len(firsts), np.uint64)
        for place in range(RUN_WORDS):
            runs = (runs + hashes[firsts + place]) * _FACTOR
        return runs, counts


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        # Never 0, which is what a short text is filled up with.
        found = self[word] = xxhash.xxh3_64_intdigest(word) | 1
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
