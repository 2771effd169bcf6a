"""Device batches for training and evaluation, the same global stream on any number of processes.

Of the rows of an update, row j goes to rank j mod world size. Every rank makes the same number of
micro-batches of the same size; rows that are missing for that are null rows: padding alone, nothing
to predict. A batch carries the place in the stream behind it, so that batches made ahead of time do
not move the place at which a resumed run goes on.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from flexbert.config.data import DataConfig
from flexbert.config.masking_choice import SINGLE_TOKENS, MaskingConfig
from flexbert.data.packing.loader_workers import WorkerContext, WorkerStart, worker_ended
from flexbert.data.packing.masking import Masker
from flexbert.data.packing.microbatches import ChunkRanges, MicrobatchBuilder
from flexbert.data.packing.position import Position
from flexbert.data.packing.row_stream import (
    NULL_ROW,
    Row,
    RowStream,
    evaluation_stream,
)
from flexbert.data.packing.word_borders import unit_borders
from flexbert.data.reading.corpus import Split
from flexbert.errors import UserError

# Of an update, by the stage's tokens and updates before it.
MaskRate: TypeAlias = Callable[[int, int], float]

_PREFETCH = 2  # device batches that each worker keeps ready


@dataclass(frozen=True)
class Documents:
    """What an update reads, over all processes.

    A class of its own, because torch makes an array that a batch holds into a tensor, and Composer
    puts a tensor onto the GPU.

    Attributes:
        lengths: tokens of each chunk of a document, special ones included.
    """

    lengths: np.ndarray


@dataclass(frozen=True)
class RankRows:
    """The rows of a global batch that one rank reads, and its micro-batches of them.

    Attributes:
        microbatch_rows: rows of a micro-batch at most.
    """

    rank: int
    world_size: int
    microbatch_rows: int

    def split(self, num_rows: int) -> tuple[int, int]:
        """``(micro-batches, rows of each)`` that every rank makes of a global batch."""
        rows_per_rank = -(-num_rows // self.world_size)
        num_microbatches = -(-rows_per_rank // self.microbatch_rows)
        return num_microbatches, -(-rows_per_rank // num_microbatches)

    def take(self, rows: list[Row], num_microbatches: int, size: int) -> list[list[Row]]:
        """This rank's micro-batches of ``size`` rows, filled up with null rows."""
        own = rows[self.rank :: self.world_size]
        own += [NULL_ROW] * (num_microbatches * size - len(own))
        return [own[begin : begin + size] for begin in range(0, len(own), size)]


@dataclass(frozen=True)
class DevicePlan:
    """What one rank makes of a batch, before any token is read.

    Attributes:
        microbatches: the rows of each.
        carried: what the batch has besides its micro-batches.
        mask_rate: share of the tokens to select; the builder's where None.
    """

    microbatches: list[list[Row]]
    carried: dict[str, Any]
    mask_rate: float | None = None


class DeviceBatches(IterableDataset[dict[str, Any] | UserError], ABC):
    """One process's batches; each of n workers makes every n-th of them."""

    def __init__(self, stream: RowStream, builder: MicrobatchBuilder, rank_rows: RankRows) -> None:
        self._stream = stream
        self._builder = builder
        self._rank_rows = rank_rows

    @abstractmethod
    def _plans(self) -> Iterator[DevicePlan]:
        """What each batch is made of."""

    def __iter__(self) -> Iterator[dict[str, Any] | UserError]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        try:
            for plan in itertools.islice(self._plans(), first, None, step):
                built = [self._build(rows, plan.mask_rate) for rows in plan.microbatches]
                yield {"microbatches": built, **plan.carried}
        except UserError as error:
            # As an item: torch would bury an exception of a worker in the text of its traceback.
            yield error

    def _build(self, rows: list[Row], mask_rate: float | None) -> dict[str, torch.Tensor | int]:
        return {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in self._builder.build(rows, mask_rate).items()
        }


class TrainingBatches(DeviceBatches):
    """Endless; one batch an update."""

    def __init__(
        self,
        stream: RowStream,
        builder: MicrobatchBuilder,
        rank_rows: RankRows,
        rows_per_update: Callable[[int], int],
        mask_rate: MaskRate | None,
        start: Position,
    ) -> None:
        super().__init__(stream, builder, rank_rows)
        self._rows_per_update = rows_per_update
        self._mask_rate = mask_rate
        self._start = start

    def _plans(self) -> Iterator[DevicePlan]:
        start = self._start.packing_window
        stream = self._stream.rows(start, self._start.row, to_be_read=True)
        known = start.index if self._start.row else -1
        tokens = self._start.tokens
        for update in itertools.count(self._start.update):
            rows = list(itertools.islice(stream, self._rows_per_update(update)))
            begun = {row.start.index: row.start for row in rows if row.start.index > known}
            last = rows[-1]
            known = last.start.index
            mask_rate = self._mask_rate(tokens, update) if self._mask_rate else None
            tokens += sum(row.num_tokens for row in rows)
            position = Position(
                packing_window=last.start,
                row=last.index + 1,
                update=update + 1,
                tokens=tokens,
            )
            yield DevicePlan(
                self._rank_rows.take(rows, *self._rank_rows.split(len(rows))),
                {
                    "position": position,
                    "packing_windows": tuple(begun.values()),
                    "documents": Documents(np.concatenate([r.drawn.lengths for r in rows])),
                },
                mask_rate,
            )


class EvaluationBatches(DeviceBatches):
    """One pass, one micro-batch a batch, all of them of one size."""

    def __init__(
        self, stream: RowStream, builder: MicrobatchBuilder, rank_rows: RankRows, rows: list[Row]
    ) -> None:
        super().__init__(stream, builder, rank_rows)
        self._rows = rows
        self._num_batches, self._size = rank_rows.split(len(rows))

    def __len__(self) -> int:
        return self._num_batches

    def _plans(self) -> Iterator[DevicePlan]:
        for microbatch in self._rank_rows.take(self._rows, self._num_batches, self._size):
            yield DevicePlan([microbatch], {})


class Loader(DataLoader[dict[str, Any] | UserError]):
    """A DataLoader of whole device batches that raises a user's error as it was raised."""

    def __init__(self, batches: DeviceBatches, num_workers: int) -> None:
        super().__init__(
            batches,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=_PREFETCH if num_workers else None,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=WorkerContext() if num_workers else None,
            worker_init_fn=WorkerStart(),
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        try:
            for batch in super().__iter__():
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            raise worker_ended(error) or error from None


def first_position(stream: RowStream, update: int = 0, tokens: int = 0) -> Position:
    """The beginning of a stream, for a stage that has had this many updates and tokens."""
    return Position(packing_window=stream.start, row=0, update=update, tokens=tokens)


def train_loader(
    stream: RowStream,
    builder: MicrobatchBuilder,
    config: DataConfig,
    *,
    rows_per_update: Callable[[int], int],
    microbatch_rows: int,
    mask_rate: MaskRate | None = None,
    rank: int = 0,
    world_size: int = 1,
    start: Position | None = None,
) -> Loader:
    """This rank's batches of a stage, without end, from ``start`` on.

    Each is ``{"microbatches": [...], "position": Position, "packing_windows": [...]}``:
    micro-batches in tensors, as
    :meth:`~flexbert.data.packing.microbatches.MicrobatchBuilder.build` describes them; the place to
    start from after this batch; and where those windows begin whose first rows are in it.

    Args:
        stream, builder: see :func:`flexbert.data.packing.row_stream.training_stream` and
            :func:`flexbert.data.packing.microbatches.training_builder`.
        rows_per_update: the rows of the global batch, by update number; must pickle.
        microbatch_rows: rows of a micro-batch at most.
        mask_rate: of each update; ``config.mask_rate`` for all of them where None. Must pickle.
    """
    rank_rows = RankRows(rank, world_size, microbatch_rows)
    start = start or first_position(stream)
    batches = TrainingBatches(stream, builder, rank_rows, rows_per_update, mask_rate, start)
    return Loader(batches, config.num_workers)


def eval_loader(
    split: Split,
    config: DataConfig,
    *,
    mask_rate: float,
    masking: MaskingConfig = SINGLE_TOKENS,
    microbatch_rows: int,
    rank: int = 0,
    world_size: int = 1,
    max_rows: int | None = None,
) -> Loader:
    """This rank's batches of one pass over a split, in a fixed order with fixed masks.

    Each is ``{"microbatches": [one]}``; ``len`` of the loader is the same on every rank.

    Args:
        mask_rate: share of the ordinary tokens to predict, whatever training's is.
        masking: which of them are selected together, whatever training does.
        microbatch_rows: rows of a micro-batch at most.
        max_rows: stop after this many rows.

    Raises:
        UserError: if the split is empty, or words are to be masked and its tokenizer does not tell
            them.
    """
    stream = evaluation_stream(split, config)
    masker = Masker(
        split.meta,
        mask_rate,
        config.mask_split,
        at_least_one=False,
        masking=masking,
        borders=unit_borders(masking, split.folder.parent),
    )
    builder = MicrobatchBuilder(stream, masker, ChunkRanges())
    windows = itertools.islice(stream.packing_windows(), stream.packing_windows_per_epoch)
    one_pass = (window.row(index) for window in windows for index in range(window.num_rows))
    rows = list(itertools.islice(one_pass, max_rows))
    rank_rows = RankRows(rank, world_size, microbatch_rows)
    return Loader(EvaluationBatches(stream, builder, rank_rows, rows), config.num_workers)
