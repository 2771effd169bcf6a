"""How often each id occurs, and what a model that knows only that can reach."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def unigram_counts(tokens: Iterable[np.ndarray], vocab_size: int) -> np.ndarray:
    """Occurrences of each id in all arrays, int64 [V]."""
    counts = np.zeros(vocab_size, np.int64)
    for array in tokens:
        counts += np.bincount(array, minlength=vocab_size)
    return counts


def unigram_entropy(counts: np.ndarray) -> float:
    """Entropy in nats of the distribution that ``counts`` describes: -sum p ln p."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
