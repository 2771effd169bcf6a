"""Drawing from several streams so that each one's part of the tokens follows its target.

At any moment stream i should have had ``share_i`` of all tokens drawn so far. Pieces are packets
that cannot be divided, so this is fair queueing on one link, and WF2Q (Bennett and Zhang 1996,
"WF2Q: worst-case fair weighted fair queueing") bounds how far it can be off: of the streams whose
next piece an ideal, infinitely divisible schedule would have begun by now, it takes the one whose
piece that schedule would finish first. No stream is then ever more than one piece ahead of its
target or behind it, however many there are. (Taking from whichever stream is furthest behind has
no such bound.)

A stream may itself be drawn from several parts, the parts of a source that are upsampled
differently, by the same rule. Each then keeps its part of the source's tokens, and the source its
part of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

_ROUNDING = 1e-3  # tokens by which float64 may be off, up to 1e12 of them


@dataclass(frozen=True)
class Shares:
    """Target parts of the tokens, in two levels.

    Attributes:
        sources: float64 ``[S]``, sums to 1.
        parts: float64 ``[P]``, those of each source sum to 1.
        begins: int64 ``[S + 1]``: source s has the parts ``begins[s]:begins[s + 1]``.
    """

    sources: np.ndarray
    parts: np.ndarray
    begins: np.ndarray

    @property
    def of_all(self) -> np.ndarray:
        """Each part's share of all tokens, float64 ``[P]``."""
        return self.parts * np.repeat(self.sources, np.diff(self.begins))


def interleave(
    shares: Shares,
    tokens: np.ndarray,
    lengths: np.ndarray,
    heads: np.ndarray,
    ends: np.ndarray,
    chosen: np.ndarray,
    filled: int,
) -> tuple[int, int]:
    """Choose the part that each next piece comes from.

    Args:
        tokens: int64 ``[P]``, drawn from each part so far; kept up to date.
        lengths: int64, tokens of the pieces that are at hand, part by part.
        heads, ends: int64 ``[P]``: the next pieces of part p are ``lengths[heads[p]:ends[p]]``;
            ``heads`` is kept up to date.
        chosen: int32, to be filled from ``filled`` on with the numbers of parts.

    Returns:
        How many are filled, and the part that has no piece at hand, or -1 when all are filled.
    """
    return _interleave(
        shares.sources, shares.parts, shares.begins, tokens, lengths, heads, ends, chosen, filled
    )


@njit(cache=True)
def _interleave(
    source_shares: np.ndarray,
    part_shares: np.ndarray,
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
        for part in range(begins[source], begins[source + 1]):
            source_tokens[source] += tokens[part]
            if heads[part] == ends[part]:
                return filled, part
        total += source_tokens[source]
        next_part[source] = _next(
            part_shares,
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
        part = next_part[best]
        length = lengths[heads[part]]
        chosen[filled] = part
        filled += 1
        heads[part] += 1
        tokens[part] += length
        source_tokens[best] += length
        total += length
        if filled < len(chosen):
            if heads[part] == ends[part]:
                return filled, part
            next_part[best] = _next(
                part_shares,
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
    """The part of a source that its next piece comes from."""
    best = -1
    earliest = np.inf
    for part in range(begin, end):
        if tokens[part] <= shares[part] * total + _ROUNDING:
            finish = (tokens[part] + lengths[heads[part]]) / shares[part]
            if finish < earliest:
                best, earliest = part, finish
    return best
