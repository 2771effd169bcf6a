"""Drawing from several streams so that each one's bucket of the tokens follows its target.

At any moment stream i should have had ``share_i`` of all tokens drawn so far. Chunks are packets
that cannot be divided, so this is fair queueing on one link, and WF2Q (Bennett and Zhang 1996,
"WF2Q: worst-case fair weighted fair queueing") bounds how far it can be off: of the streams whose
next chunk an ideal, infinitely divisible schedule would have begun by now, it takes the one whose
chunk that schedule would finish first. No stream is then ever more than one chunk ahead of its
target or behind it, however many there are. (Taking from whichever stream is furthest behind has
no such bound.)

A stream may itself be drawn from several buckets, the buckets of a source that are upsampled
differently, by the same rule. Each then keeps its bucket of the source's tokens, and the source its
bucket of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

_ROUNDING = 1e-3  # tokens by which float64 may be off, up to 1e12 of them


@dataclass(frozen=True)
class Shares:
    """Target buckets of the tokens, in two levels.

    Attributes:
        sources: float64 ``[S]``, sums to 1.
        buckets: float64 ``[P]``, those of each source sum to 1.
        begins: int64 ``[S + 1]``: source s has the buckets ``begins[s]:begins[s + 1]``.
    """

    sources: np.ndarray
    buckets: np.ndarray
    begins: np.ndarray

    @property
    def of_all(self) -> np.ndarray:
        """Each bucket's share of all tokens, float64 ``[P]``."""
        return self.buckets * np.repeat(self.sources, np.diff(self.begins))


def interleave(
    shares: Shares,
    tokens: np.ndarray,
    lengths: np.ndarray,
    heads: np.ndarray,
    ends: np.ndarray,
    chosen: np.ndarray,
    filled: int,
) -> tuple[int, int]:
    """Choose the bucket that each next chunk comes from.

    Args:
        tokens: int64 ``[P]``, drawn from each bucket so far; kept up to date.
        lengths: int64, tokens of the chunks read ahead, bucket by bucket.
        heads, ends: int64 ``[P]``: the next chunks of bucket p are ``lengths[heads[p]:ends[p]]``;
            ``heads`` is kept up to date.
        chosen: int32, to be filled from ``filled`` on with the numbers of buckets.

    Returns:
        How many are filled, and the bucket that has no chunk left, or -1 when all are filled.
    """
    return _interleave(
        shares.sources, shares.buckets, shares.begins, tokens, lengths, heads, ends, chosen, filled
    )


@njit(cache=True)
def _interleave(
    source_shares: np.ndarray,
    bucket_shares: np.ndarray,
    begins: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    heads: np.ndarray,
    ends: np.ndarray,
    chosen: np.ndarray,
    filled: int,
) -> tuple[int, int]:
    num_sources = len(source_shares)
    source_tokens = np.zeros(num_sources, np.int64)
    next_part = np.empty(num_sources, np.int64)
    total = np.int64(0)
    for source in range(num_sources):
        for bucket in range(begins[source], begins[source + 1]):
            source_tokens[source] += tokens[bucket]
            if heads[bucket] == ends[bucket]:
                return filled, bucket
        total += source_tokens[source]
        next_part[source] = _next(
            bucket_shares,
            tokens,
            lengths,
            heads,
            begins[source],
            begins[source + 1],
            source_tokens[source],
        )
    while filled < len(chosen):
        best = -1
        earliest = np.inf
        for source in range(num_sources):
            if source_tokens[source] <= source_shares[source] * total + _ROUNDING:
                length = lengths[heads[next_part[source]]]
                finish = (source_tokens[source] + length) / source_shares[source]
                if finish < earliest:
                    best, earliest = source, finish
        bucket = next_part[best]
        length = lengths[heads[bucket]]
        chosen[filled] = bucket
        filled += 1
        heads[bucket] += 1
        tokens[bucket] += length
        source_tokens[best] += length
        total += length
        if filled < len(chosen):
            if heads[bucket] == ends[bucket]:
                return filled, bucket
            next_part[best] = _next(
                bucket_shares,
                tokens,
                lengths,
                heads,
                begins[best],
                begins[best + 1],
                source_tokens[best],
            )
    return filled, -1


@njit(cache=True)
def _next(
    shares: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    heads: np.ndarray,
    begin: int,
    end: int,
    total: int,
) -> int:
    """The bucket of a source that its next chunk comes from."""
    best = -1
    earliest = np.inf
    for bucket in range(begin, end):
        if tokens[bucket] <= shares[bucket] * total + _ROUNDING:
            finish = (tokens[bucket] + lengths[heads[bucket]]) / shares[bucket]
            if finish < earliest:
                best, earliest = bucket, finish
    return best
