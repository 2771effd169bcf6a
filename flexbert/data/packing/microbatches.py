"""Micro-batches from rows: tokens read, special tokens and padding placed, tokens masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numba import njit

from flexbert.config.data import DataConfig
from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.packing.masking import Masker, Ranges, range_keys
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import Row, RowLayout, RowStream, identity
from flexbert.data.packing.word_borders import unit_borders
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.chunks import NUM_SPECIALS
from flexbert.data.sampling.random_keys import derive_key

Microbatch: TypeAlias = dict[str, np.ndarray | int]


@dataclass(frozen=True)
class PlacedChunks:
    """Where the chunks of a micro-batch come from and where they stand; all int64.

    Attributes:
        documents, starts: the document of each chunk and its first token there.
        begins, ends: its flat range in the micro-batch, special tokens included.
    """

    documents: np.ndarray
    starts: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


class MaskedRanges(Protocol):
    """What is masked by one key."""

    def ranges_per_row(self, layout: RowLayout) -> int:
        """How many ranges a row has at most."""

    def ranges(self, layout: RowLayout, rows: Sequence[Row], placed: PlacedChunks) -> Ranges:
        """The ranges of a micro-batch with these rows."""


class RowRanges:
    """Training: a row is one range, and masked in another way whenever it comes."""

    def __init__(self, key: StreamKey, sources: str) -> None:
        """
        Args:
            sources: see :func:`flexbert.data.packing.row_stream.identity`.
        """
        self._base = _base_key("training", key.seed, key.stage_order, sources)

    def ranges_per_row(self, layout: RowLayout) -> int:
        return 1

    def ranges(self, layout: RowLayout, rows: Sequence[Row], placed: PlacedChunks) -> Ranges:
        begins = np.arange(len(rows)) * layout.row_length
        windows = np.array([row.start.index for row in rows])
        indices = np.array([row.index for row in rows])
        return Ranges(begins, begins + layout.row_length, range_keys(self._base, windows, indices))


class ChunkRanges:
    """Evaluation: a chunk is one range, masked in the same way in every row, run and step."""

    def __init__(self) -> None:
        self._base = _base_key("evaluation")

    def ranges_per_row(self, layout: RowLayout) -> int:
        return layout.max_sequences

    def ranges(self, layout: RowLayout, rows: Sequence[Row], placed: PlacedChunks) -> Ranges:
        keys = range_keys(self._base, placed.documents, placed.starts)
        return Ranges(placed.begins, placed.ends, keys)


def _base_key(*parts: str | int) -> np.uint64:
    return np.uint64(derive_key("mask", *parts) & 0xFFFFFFFFFFFFFFFF)


class MicrobatchBuilder:
    """Turns planned rows into arrays of static shape."""

    def __init__(self, stream: RowStream, masker: Masker, masked_ranges: MaskedRanges) -> None:
        self._layout = stream.layout
        self._buckets = stream.mixture.buckets
        self._meta = self._buckets[0].chunks.split.meta
        self._masker = masker
        self._masked_ranges = masked_ranges

    def build(self, rows: Sequence[Row], mask_rate: float | None = None) -> Microbatch:
        """A micro-batch of these rows, concatenated: N tokens in S sequences, M masked at most.

        Args:
            mask_rate: share of the tokens to select, at most the masker's, which it is unless told.

        Returns:
            ``input_ids [N]`` and ``position_ids [N]`` (int64); ``cu_seqlens [S+1]`` (int32, unused
            sequences are empty ones at the end) and ``max_seqlen``; ``masked_positions [M]`` and
            ``labels [M]`` (int64, padded with 0 and ``IGNORE``); ``num_tokens``, without padding,
            and ``num_masked``.

        Raises:
            CorpusError: if a document has an id that the tokenizer cannot produce.
        """
        layout, meta = self._layout, self._meta
        lengths = np.concatenate([row.drawn.lengths for row in rows])
        buckets = np.concatenate([row.drawn.buckets for row in rows])
        documents, starts, content = self._read(
            buckets, np.concatenate([row.drawn.numbers for row in rows]), lengths - NUM_SPECIALS
        )
        row_offsets = np.cumsum([0] + [len(row.drawn.lengths) for row in rows])

        num_tokens = len(rows) * layout.row_length
        input_ids = np.empty(num_tokens, np.int64)
        position_ids = np.empty(num_tokens, np.int64)
        cu_seqlens = np.full(len(rows) * layout.num_sequences + 1, num_tokens, np.int32)
        begins = np.empty(len(lengths), np.int64)
        special = meta.special_ids
        wrong = _lay_out(
            content,
            lengths,
            row_offsets,
            (layout.row_length, layout.max_length),
            (special.cls, special.sep, special.pad),
            meta.vocab_size,
            input_ids,
            position_ids,
            cu_seqlens,
            begins,
        )
        if wrong >= 0:
            split = self._buckets[buckets[wrong]].chunks.split
            raise CorpusError(
                f"{split.folder}: document {documents[wrong]} has "
                f"a token id that its tokenizer of {meta.vocab_size} entries does not have; make "
                "the corpus again"
            )
        placed = PlacedChunks(documents, starts, begins, begins + lengths)
        masked = self._masker.mask(
            input_ids,
            self._masked_ranges.ranges(layout, rows, placed),
            self._masker.capacity(layout.row_length, self._masked_ranges.ranges_per_row(layout))
            * len(rows),
            mask_rate,
        )
        return {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "cu_seqlens": cu_seqlens,
            "max_seqlen": layout.max_length,
            "masked_positions": masked.positions,
            "labels": masked.labels,
            "num_tokens": int(lengths.sum()),
            "num_masked": masked.count,
        }

    def _read(
        self, buckets: np.ndarray, numbers: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Documents and first tokens of chunks (int64), and their tokens behind each other."""
        content = np.empty(int(counts.sum()), self._meta.dtype)
        places = np.cumsum(counts) - counts
        documents, starts = np.empty_like(numbers), np.empty_like(numbers)
        for bucket in np.unique(buckets).tolist():
            own = slice(None) if len(self._buckets) == 1 else buckets == bucket
            chunks = self._buckets[bucket].chunks
            documents[own], starts[own], _ = chunks.locate(numbers[own])
            chunks.split.gather_into(content, places[own], documents[own], starts[own], counts[own])
        return documents, starts, content


def training_builder(
    stream: RowStream, splits: Mapping[str, Split], config: DataConfig, key: StreamKey
) -> MicrobatchBuilder:
    """What turns rows of a stage's stream into the masked batches that it trains on.

    Raises:
        UserError: if words are to be masked and the corpora's tokenizer does not tell them.
    """
    split = next(iter(splits.values()))
    masker = Masker(
        split.meta,
        config.mask_rate,
        config.mask_split,
        at_least_one=True,
        masking=config.masking,
        borders=unit_borders(config.masking, split.folder.parent),
    )
    return MicrobatchBuilder(stream, masker, RowRanges(key, identity(splits)))


@njit(cache=True)
def _lay_out(
    content: np.ndarray,
    lengths: np.ndarray,
    row_offsets: np.ndarray,
    shape: tuple[int, int],
    special_ids: tuple[int, int, int],
    vocab_size: int,
    input_ids: np.ndarray,
    position_ids: np.ndarray,
    cu_seqlens: np.ndarray,
    begins: np.ndarray,
) -> int:
    """Fill the last four arrays; return the first chunk with an id of no token, or -1.

    ``cu_seqlens`` comes filled with the number of tokens, which is what unused sequences have.
    """
    row_length, max_length = shape
    cls_id, sep_id, pad_id = special_ids
    read = 0
    sequence = 0
    for row in range(len(row_offsets) - 1):
        write = row * row_length
        row_end = write + row_length
        for chunk in range(row_offsets[row], row_offsets[row + 1]):
            begins[chunk] = write
            cu_seqlens[sequence] = write
            sequence += 1
            last = lengths[chunk] - 1
            input_ids[write] = cls_id
            largest = np.int64(0)
            for i in range(1, last):
                token = np.int64(content[read + i - 1])
                largest = max(largest, token)
                input_ids[write + i] = token
            if largest >= vocab_size:
                return chunk
            input_ids[write + last] = sep_id
            for i in range(last + 1):
                position_ids[write + i] = i
            read += last - 1
            write += last + 1
        while write < row_end:
            cu_seqlens[sequence] = write
            sequence += 1
            padding = min(max_length, row_end - write)
            for i in range(padding):
                input_ids[write + i] = pad_id
                position_ids[write + i] = i
            write += padding
    return -1
