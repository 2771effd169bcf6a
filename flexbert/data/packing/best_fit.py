"""Packing the chunks of a window into rows: best-fit decreasing, its short chunks spread evenly.

Chunks are taken from the longest to the shortest, and each goes into the row with the least room
that still holds it, or else into a new one (best-fit decreasing; Johnson et al. 1974, "Worst-case
performance bounds for simple one-dimensional packing algorithms").

Done to the end, this fills the last rows with nothing but the shortest chunks: in rows of 8192, 13
to 24 times as many as a row has on average (lognormal lengths with means of 300 and 500). With a
fixed capacity for sequences, attention would pay for the fullest row in every row. So a second rule
goes by best fit while chunks are long; then it opens as many rows as the tokens will need, and puts
each short chunk into the row with the most room. The fullest row has about twice the average then,
for 0.1 percent more padding on such lengths. Where there are no short chunks to even out with, it
wastes more. Each window is packed by both rules, and the one that needs fewer rows is taken.

A tree over the amounts of room finds the row: packing n chunks costs O(n log capacity), some
20 million chunks a second, and only lengths are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

_SHORT = 16  # short is a chunk of at most this part of a row
_SLACK = 0.001  # rows more than the tokens need, so that spreading ends without one overfull row
_COST = 0.0025  # rows more than without a limit of sequences, at most
_STEP = 8  # limits of sequences are multiples of it


@dataclass(frozen=True)
class Packing:
    """Rows in compressed form: row r holds ``members[offsets[r]:offsets[r + 1]]``.

    Attributes:
        offsets: int64, one more than there are rows.
        members: int64, positions in the packed array of lengths, each once.
    """

    offsets: np.ndarray
    members: np.ndarray

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> np.ndarray:
        return self.members[self.offsets[index] : self.offsets[index + 1]]


def pack(lengths: np.ndarray, capacity: int, max_sequences: int) -> Packing:
    """Pack chunks of these lengths into rows of ``capacity`` tokens.

    Args:
        lengths: int64, each at least 1 and at most ``capacity``.
        max_sequences: chunks a row holds at most.
    """
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= capacity:
        raise ValueError(f"lengths must be between 1 and the capacity of {capacity}")
    decreasing = _decreasing(lengths, capacity)
    num_planned = math.ceil(lengths.sum() * (1 + _SLACK) / capacity)
    rows, num_rows = min(
        (
            _assign(lengths, decreasing, capacity, max_sequences, short, num_planned)
            for short in (capacity // _SHORT, 0)
        ),
        key=lambda assigned: assigned[1],
    )
    offsets, members = _by_row(rows, decreasing, num_rows)
    return Packing(offsets, members)


def enough_sequences(lengths: np.ndarray, capacity: int) -> int:
    """A small ``max_sequences`` that costs next to nothing on chunks of these lengths.

    It needs at most 0.25 percent more rows than no limit would. The mean number of chunks is tried
    first, then more, a quarter at a time.
    """
    fewest = pack(lengths, capacity, len(lengths)).num_rows
    limit = len(lengths) // fewest
    while True:
        limit = -(-limit // _STEP) * _STEP
        if pack(lengths, capacity, limit).num_rows <= fewest * (1 + _COST):
            return limit
        limit += limit // 4 + 1


@njit(cache=True)
def _decreasing(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Positions from the longest to the shortest length, equal ones in order: a counting sort."""
    begins = np.zeros(capacity + 1, np.int64)
    for length in lengths:
        begins[capacity - length + 1] += 1
    begins = np.cumsum(begins)
    order = np.empty(len(lengths), np.int64)
    for i in range(len(lengths)):
        slot = capacity - lengths[i]
        order[begins[slot]] = i
        begins[slot] += 1
    return order


@njit(cache=True)
def _assign(
    lengths: np.ndarray,
    decreasing: np.ndarray,
    capacity: int,
    max_sequences: int,
    short: int,
    num_planned: int,
) -> tuple[np.ndarray, int]:
    """The row of each chunk, and the number of rows; chunks of at most ``short`` are spread.

    Open rows with the same room form a stack: ``top`` by room, ``below`` by row, -1 at its end.
    ``tree`` is a binary heap-ordered tree whose leaf ``leaves + room`` tells whether that stack
    holds a row, and whose other nodes tell whether a leaf under them does.
    """
    leaves = 1
    while leaves <= capacity:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.bool_)
    top = np.full(capacity + 1, -1, np.int64)
    below = np.empty(len(lengths), np.int64)
    held = np.zeros(len(lengths), np.int64)
    rows = np.empty(len(lengths), np.int64)
    num_rows = 0
    for chunk in decreasing:
        length = lengths[chunk]
        if length > short:
            room = _least_room(tree, leaves, length)
        elif num_rows < num_planned:
            room = -1  # no row has more room than a new one
        else:
            room = _most_room(tree, leaves)
        if room < length:
            room = capacity
            row = num_rows
            num_rows += 1
        else:
            row = top[room]
            top[room] = below[row]
            if top[room] < 0:
                _clear(tree, leaves + room)
        rows[chunk] = row
        held[row] += 1
        room -= length
        if room and held[row] < max_sequences:
            below[row] = top[room]
            if top[room] < 0:
                _set(tree, leaves + room)
            top[room] = row
    return rows, num_rows


@njit(cache=True)
def _least_room(tree: np.ndarray, leaves: int, length: int) -> int:
    """The least room of at least ``length`` that some open row has, or -1."""
    node = leaves + length
    if tree[node]:
        return length
    # Up, until the neighbour to the right has a row under it.
    while node & 1 or not tree[node + 1]:
        node >>= 1
        if node <= 1:
            return -1
    node += 1
    # Down, to the leftmost leaf that has one.
    while node < leaves:
        node *= 2
        node += not tree[node]
    return node - leaves


@njit(cache=True)
def _most_room(tree: np.ndarray, leaves: int) -> int:
    """The most room that some open row has, or -1."""
    if not tree[1]:
        return -1
    node = 1
    while node < leaves:
        node = 2 * node + 1
        node -= not tree[node]
    return node - leaves


@njit(cache=True)
def _set(tree: np.ndarray, node: int) -> None:
    while node and not tree[node]:
        tree[node] = True
        node >>= 1


@njit(cache=True)
def _clear(tree: np.ndarray, node: int) -> None:
    tree[node] = False
    while node > 1 and not tree[node ^ 1]:
        node >>= 1
        tree[node] = False


@njit(cache=True)
def _by_row(
    rows: np.ndarray, decreasing: np.ndarray, num_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and members of each row, its longest chunk first."""
    offsets = np.zeros(num_rows + 1, np.int64)
    for row in rows:
        offsets[row + 1] += 1
    offsets = np.cumsum(offsets)
    members = np.empty(len(rows), np.int64)
    filled = offsets[:-1].copy()
    for chunk in decreasing:
        row = rows[chunk]
        members[filled[row]] = chunk
        filled[row] += 1
    return offsets, members
