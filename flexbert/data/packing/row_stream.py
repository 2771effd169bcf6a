"""The stream of packed rows that a stage sees, row by row, without reading a single token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from flexbert.config.data import DataConfig
from flexbert.data.packing.best_fit import Packing, enough_sequences, pack
from flexbert.data.packing.position import PackingWindowStart, StreamKey
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.data.sampling.mixture import Bucket, Drawn, Mixture, training_mixture
from flexbert.data.sampling.permutation import shuffled
from flexbert.data.sampling.random_keys import derive_key
from flexbert.data.sampling.samplers import SequentialSampler
from flexbert.files.private_folder import default_cache


@dataclass(frozen=True)
class RowLayout:
    """The static shape of a row.

    Attributes:
        max_sequences: chunks in a row at most.
    """

    row_length: int
    max_length: int
    max_sequences: int

    @property
    def num_sequences(self) -> int:
        """Sequences in a row at most: its chunks, and the padding cut to ``max_length``."""
        return self.max_sequences + -(-self.row_length // self.max_length)


@dataclass(frozen=True)
class Row:
    """The plan of one row.

    Attributes:
        start: where its window begins.
        index: its place in the window.
        drawn: its chunks.
    """

    start: PackingWindowStart
    index: int
    drawn: Drawn

    @property
    def num_tokens(self) -> int:
        return int(self.drawn.lengths.sum())


_NOTHING = np.empty(0, np.int64)
NULL_ROW = Row(
    PackingWindowStart(0, 0, (), ()), 0, Drawn(_NOTHING.astype(np.int32), _NOTHING, _NOTHING)
)
"""A row of padding alone: it stands in where rows do not divide among processes."""


@dataclass(frozen=True)
class PackingWindow:
    """A window, packed.

    Attributes:
        next: where the window after it begins.
    """

    start: PackingWindowStart
    next: PackingWindowStart
    drawn: Drawn
    packing: Packing
    row_order: np.ndarray

    @property
    def num_rows(self) -> int:
        return self.packing.num_rows

    def row(self, index: int) -> Row:
        members = self.packing.row(self.row_order[index])
        drawn = self.drawn
        return Row(
            self.start,
            index,
            Drawn(drawn.buckets[members], drawn.numbers[members], drawn.lengths[members]),
        )


class RowOrder(Protocol):
    """In which order a window's packed rows come."""

    def __call__(self, window: int, num_rows: int) -> np.ndarray: ...


@dataclass(frozen=True)
class ShuffledRows:
    """A random permutation, another one for each window.

    Attributes:
        key: what it is drawn from, besides the window's number.
    """

    key: tuple[str | int, ...]

    def __call__(self, window: int, num_rows: int) -> np.ndarray:
        return shuffled(num_rows, derive_key("rows", *self.key, window))


def _as_packed(window: int, num_rows: int) -> np.ndarray:
    """No shuffling: the order of evaluation."""
    return np.arange(num_rows)


class RowStream:
    """Rows are a pure function of the chunks' lengths and their order.

    Any process computes any window from its start and nothing else, so that processes agree
    without speaking.
    """

    def __init__(
        self, mixture: Mixture, layout: RowLayout, packing_window: int, row_order: RowOrder
    ) -> None:
        self.mixture = mixture
        self.layout = layout
        self._row_order = row_order
        self._packing_window_size = min(packing_window, mixture.num_chunks)

    @property
    def start(self) -> PackingWindowStart:
        """Where the first window begins."""
        nothing = (0,) * len(self.mixture.buckets)
        return PackingWindowStart(0, 0, nothing, nothing)

    @cached_property
    def packing_windows_per_epoch(self) -> int:
        """Of a single bucket: the fewest windows of at most ``packing_window`` that hold it."""
        return -(-self.mixture.num_chunks // self._packing_window_size)

    def packing_window(self, start: PackingWindowStart) -> PackingWindow:
        """The window that begins there."""
        chunks, tokens = np.array(start.chunks), np.array(start.tokens)
        drawn = self.mixture.draw(self._size(start.index), chunks, tokens)
        layout = self.layout
        packing = pack(drawn.lengths, layout.row_length, layout.max_sequences)
        following = PackingWindowStart(
            start.index + 1,
            start.row + packing.num_rows,
            tuple(chunks.tolist()),
            tuple(tokens.tolist()),
        )
        order = self._row_order(start.index, packing.num_rows)
        return PackingWindow(start, following, drawn, packing, order)

    def packing_windows(self, start: PackingWindowStart | None = None) -> Iterator[PackingWindow]:
        """All windows from a place on, epoch after epoch."""
        start = start or self.start
        while True:
            window = self.packing_window(start)
            yield window
            start = window.next

    def rows(
        self, start: PackingWindowStart | None = None, index: int = 0, *, to_be_read: bool = False
    ) -> Iterator[Row]:
        """All rows from row ``index`` of a window on; that may be the window's very end.

        Args:
            to_be_read: this process will read their documents, so that remote ones are fetched
                ahead.
        """
        for window in self.packing_windows(start):
            if to_be_read:
                self.mixture.announce(window.start.chunks, window.next.chunks)
            for number in range(index, window.num_rows):
                yield window.row(number)
            index = 0

    def has(self, start: PackingWindowStart, row: int) -> bool:
        """Whether a window of this stream begins there, and has such a row or ends before it."""
        num_buckets = len(self.mixture.buckets)
        if not len(start.chunks) == len(start.tokens) == num_buckets:
            return False
        if sum(start.chunks) != self._chunks_before(start.index):
            return False
        # A row holds a chunk at least, and at most as many tokens as it is long.
        if not sum(start.tokens) <= start.row * self.layout.row_length or start.row > sum(
            start.chunks
        ):
            return False
        return row == 0 or row <= self.packing_window(start).num_rows

    def _chunks_before(self, window: int) -> int:
        """Chunks of all earlier windows."""
        if len(self.mixture.buckets) > 1:
            return window * self._packing_window_size
        epochs, number = divmod(window, self.packing_windows_per_epoch)
        num_chunks = self.mixture.num_chunks
        return epochs * num_chunks + number * num_chunks // self.packing_windows_per_epoch

    def _size(self, window: int) -> int:
        """Chunks in a window.

        The epochs of a single bucket are cut into the fewest windows, nearly equal ones, so that no
        window straddles two of them. A mixture has no epochs, and all its windows are of one size.
        """
        if len(self.mixture.buckets) > 1:
            return self._packing_window_size
        return self._chunks_before(window + 1) - self._chunks_before(window)


def training_stream(splits: Mapping[str, Split], config: DataConfig, key: StreamKey) -> RowStream:
    """A stage's endless stream, every epoch in an order of its own.

    Args:
        splits: the training split of each source, by its name.

    Raises:
        ConfigError, CorpusError: see :func:`flexbert.data.sampling.mixture.training_mixture`.
    """
    cache = config.cache or default_cache()
    mixture = training_mixture(splits, config, key.seed, key.stage_order, cache)
    order = ShuffledRows((key.seed, key.stage_order, identity(splits)))
    return RowStream(mixture, _layout(mixture, config), config.packing_window, order)


def sampling_stream(splits: Mapping[str, Split], config: DataConfig) -> RowStream:
    """The sources of a stage with their shares, in the corpora's own orders: for estimates."""
    mixture = training_mixture(splits, config, 0, "", config.cache or default_cache())
    layout = _layout(mixture, config)
    return RowStream(mixture.in_corpus_order(), layout, config.packing_window, _as_packed)


def evaluation_stream(split: Split, config: DataConfig) -> RowStream:
    """One source's stream in the corpus's own order: one pass is an epoch's packing windows."""
    chunks = Chunks(
        split, Cut(config.max_length, config.merge_below), cache=config.cache or default_cache()
    )
    mixture = Mixture([Bucket("", "", chunks, SequentialSampler(chunks), 1.0)], {"": 1.0})
    return RowStream(mixture, _layout(mixture, config), config.packing_window, _as_packed)


def identity(splits: Mapping[str, Split]) -> str:
    """What tells the sources of a stream from others: the fingerprint, where there is only one."""
    fingerprints = [split.fingerprint for split in splits.values()]
    return fingerprints[0] if len(fingerprints) == 1 else f"{derive_key(*fingerprints):032x}"


def _layout(mixture: Mixture, config: DataConfig) -> RowLayout:
    max_sequences = enough_sequences(
        mixture.sample_lengths(config.packing_window), config.row_length
    )
    return RowLayout(config.row_length, config.max_length, max_sequences)
