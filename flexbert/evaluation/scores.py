"""Sums over masked tokens: by position, and with what the error of their mean needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_SHORTEST_BUCKET = 32


@dataclass(frozen=True, kw_only=True)
class MaskedScore:
    """How well masked tokens are predicted; all None where there was none.

    Attributes:
        masked_tokens: how many were predicted.
        loss: cross-entropy in nats a masked token.
        standard_error: of the loss, sequences being drawn independently (the ratio estimator of
            Cochran 1977, "Sampling Techniques", 2.11); None below two sequences.
        perplexity: e to the loss.
        accuracy: share whose most likely prediction is right.
    """

    masked_tokens: int
    loss: float | None = None
    standard_error: float | None = None
    perplexity: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class PositionScore:
    """The scores at positions ``begin`` up to, not including, ``end`` of their sequences."""

    begin: int
    end: int
    masked_tokens: int
    loss: float
    accuracy: float


class ScoreSums:
    """Sums over one source, or over several added up.

    Args:
        max_length: of a sequence, in tokens.
    """

    def __init__(self, max_length: int) -> None:
        self.borders = bucket_borders(max_length)
        size = len(self.borders) - 1
        self.losses, self.hits = np.zeros(size), np.zeros(size, np.int64)
        self.counts = np.zeros(size, np.int64)
        # Over sequences: how many, and sums of loss^2, loss * count and count^2.
        self.sequences = 0
        self.squares = np.zeros(3)

    def add(
        self, losses: np.ndarray, hits: np.ndarray, positions: np.ndarray, sequences: np.ndarray
    ) -> None:
        """Add masked tokens of whole sequences.

        Args:
            losses: in nats, ``[M]``.
            hits: bool ``[M]``.
            positions: each token's in its sequence, ``[M]``.
            sequences: a number that tells its sequence from others of this call, ``[M]``.
        """
        losses = losses.astype(np.float64)
        buckets = np.searchsorted(self.borders, positions, side="right") - 1
        size = len(self.counts)
        self.losses += np.bincount(buckets, losses, size)
        self.hits += np.bincount(buckets, hits, size).astype(np.int64)
        self.counts += np.bincount(buckets, minlength=size)
        _, own = np.unique(sequences, return_inverse=True)
        loss, count = np.bincount(own, losses), np.bincount(own)
        self.sequences += len(count)
        self.squares += loss @ loss, loss @ count, count @ count

    def __iadd__(self, other: ScoreSums) -> ScoreSums:
        for name in ("losses", "hits", "counts", "sequences", "squares"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def score(self) -> MaskedScore:
        count = int(self.counts.sum())
        if count == 0:
            return MaskedScore(masked_tokens=0)
        loss = float(self.losses.sum() / count)
        error = None
        if (n := self.sequences) > 1:
            both, mixed, counts = self.squares.tolist()
            residuals = max(0.0, both - 2 * loss * mixed + loss * loss * counts)
            error = math.sqrt(n / (n - 1) * residuals) / count
        return MaskedScore(
            masked_tokens=count,
            loss=loss,
            standard_error=error,
            perplexity=_exp(loss),
            accuracy=float(self.hits.sum() / count),
        )

    def by_position(self) -> tuple[PositionScore, ...]:
        """Of the buckets in which a token was masked."""
        return tuple(
            PositionScore(
                begin=int(self.borders[bucket]),
                end=int(self.borders[bucket + 1]),
                masked_tokens=int(self.counts[bucket]),
                loss=float(self.losses[bucket] / self.counts[bucket]),
                accuracy=float(self.hits[bucket] / self.counts[bucket]),
            )
            for bucket in np.flatnonzero(self.counts).tolist()
        )


def bucket_borders(max_length: int) -> np.ndarray:
    """0, 32, 64, 128 and so on to ``max_length``: each bucket is as long as all before."""
    borders = [0]
    while (border := max(_SHORTEST_BUCKET, 2 * borders[-1])) < max_length:
        borders.append(border)
    return np.array([*borders, max_length])


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
