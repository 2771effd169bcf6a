"""What a token costs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FORMULA = (
    "6 x encoder matrices + 6 x decoder matrices x mask rate "
    "+ 12 x heads' total size x mean keys attended, summed over layers (forward and backward)"
)


def flops_per_token(
    *,
    encoder_matrices: int,
    head_matrices: int,
    mask_rate: float,
    attention: Iterable[tuple[int, float]],
) -> float:
    """Floating-point operations of one token's forward and backward pass, after ``FORMULA``.

    Args:
        encoder_matrices: weights of the matrices that every token passes.
        head_matrices: weights of those that only masked tokens pass, a tied decoder's among them.
        attention: for every layer the size of all its heads together (the hidden size, in most
            models), and the keys that a token attends to, on average.
    """
    scores = 12 * sum(size * keys for size, keys in attention)
    return 6 * encoder_matrices + 6 * head_matrices * mask_rate + scores


def mean_keys_attended(lengths: np.ndarray, window: int | None) -> float:
    """Keys a token sees, averaged over the tokens of documents of these ``lengths``.

    In a window of w, token i of a document of length n sees those of ``[i - w/2, i + w/2]`` that
    exist: ``n (2h + 1) - h (h + 1)`` pairs for h = w/2 < n, all ``n^2`` otherwise.
    """
    n = lengths.astype(np.float64)
    if window is None:
        pairs = n**2
    else:
        half = np.minimum(window // 2, n - 1)
        pairs = n * (2 * half + 1) - half * (half + 1)
    return float(pairs.sum() / n.sum())
