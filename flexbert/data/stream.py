"""The stream of packed rows that a stage sees, row by row, without reading a single token."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexbert.config.data import DataConfig
from flexbert.data.corpus import Split
from flexbert.data.order import FixedOrder, PieceOrder, ShuffledOrder, Windows
from flexbert.data.packing import enough_segments, pack
from flexbert.data.pieces import Pieces


@dataclass(frozen=True)
class RowLayout:
    """The static shape of a row.

    Attributes:
        max_segments: pieces in a row at most.
    """

    row_length: int
    max_length: int
    max_segments: int

    @property
    def segments(self) -> int:
        """Segments in a row at most: its pieces, and the padding cut to ``max_length``."""
        return self.max_segments + -(-self.row_length // self.max_length)


@dataclass(frozen=True)
class Row:
    """The plan of one row.

    Attributes:
        window, index: its place in the stream.
        pieces: int64, the numbers of its pieces.
        lengths: int64, their tokens, special tokens included.
    """

    window: int
    index: int
    pieces: np.ndarray
    lengths: np.ndarray


_NOTHING = np.empty(0, np.int64)
NULL_ROW = Row(0, 0, _NOTHING, _NOTHING)
"""A row of padding alone: it stands in where rows do not divide among processes."""


class RowStream:
    """Rows are a pure function of the pieces' lengths and their order.

    Any process computes any window from nothing else, so that processes agree without speaking.
    """

    def __init__(self, pieces: Pieces, order: PieceOrder, layout: RowLayout) -> None:
        self.pieces = pieces
        self.layout = layout
        self._order = order

    def window(self, window: int, first_row: int = 0) -> Iterator[Row]:
        """The rows of one window, from ``first_row`` on."""
        pieces = self._order.pieces(window).astype(np.int64)
        lengths = self.pieces.lengths(pieces)
        packing = pack(lengths, self.layout.row_length, self.layout.max_segments)
        rows = self._order.rows(window, packing.num_rows)
        for index in range(first_row, packing.num_rows):
            members = packing.row(rows[index])
            yield Row(window, index, pieces[members], lengths[members])

    def rows(self, window: int = 0, row: int = 0) -> Iterator[Row]:
        """All rows from a place on, epoch after epoch; the place may be a window's very end."""
        for number in itertools.count(window):
            yield from self.window(number, row)
            row = 0


def training_stream(split: Split, config: DataConfig, *, seed: int, stage: str) -> RowStream:
    """A stage's endless stream, every epoch in an order of its own."""
    pieces = Pieces(split, config.max_length)
    windows = Windows(len(pieces), config.window)
    cache = config.cache or Path(tempfile.gettempdir()) / f"flexbert-{os.getuid()}"
    order = ShuffledOrder(windows, seed, stage, split.fingerprint, cache)
    return RowStream(pieces, order, _layout(pieces, config))


def evaluation_stream(split: Split, config: DataConfig) -> tuple[RowStream, int]:
    """A stream in the corpus's own order, and how many windows make one pass."""
    pieces = Pieces(split, config.max_length)
    windows = Windows(len(pieces), config.window)
    return RowStream(pieces, FixedOrder(windows), _layout(pieces, config)), windows.per_epoch


def _layout(pieces: Pieces, config: DataConfig) -> RowLayout:
    lengths = pieces.lengths(pieces.sample(config.window))
    max_segments = enough_segments(lengths, config.row_length)
    return RowLayout(config.row_length, config.max_length, max_segments)
