"""How often each id occurs, and what a model that knows only that can reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

# Documents are handled in blocks of about this many tokens: few calls, bounded memory.
BLOCK_TOKENS = 1 << 20


def token_blocks(documents: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens, ends): consecutive documents joined, and where each of them ends."""
    block: list[np.ndarray] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if size >= BLOCK_TOKENS:
            yield np.concatenate(block), np.cumsum([len(document) for document in block])
            block, size = [], 0
    if block:
        yield np.concatenate(block), np.cumsum([len(document) for document in block])


def unigram_counts(documents: Iterable[np.ndarray], vocab_size: int) -> np.ndarray:
    """Occurrences of each id, int64 [V]."""
    counts = np.zeros(vocab_size, np.int64)
    for tokens, _ in token_blocks(documents):
        counts += np.bincount(tokens, minlength=vocab_size)
    return counts


def unigram_entropy(counts: np.ndarray) -> float:
    """Entropy in nats of the distribution that ``counts`` describes: -sum p ln p."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
