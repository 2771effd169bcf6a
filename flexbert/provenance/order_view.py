"""A run's data order, looked back on: which rows its steps had, and which rows had a document.

The order is a function, so nothing had to be written down while training but where windows begin.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from flexbert.checkpoint.checkpoint_names import checkpoint_step, list_checkpoints
from flexbert.config.clock import StageClock
from flexbert.config.data import DataConfig
from flexbert.config.decode import decode
from flexbert.config.duration import Duration
from flexbert.config.plain_values import count
from flexbert.config.plugins import changed_text, missing_text
from flexbert.config.training import BatchConfig, ScheduleConfig
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.packing.order_description import (
    describe_order,
    require_same_order,
    with_new_defaults,
)
from flexbert.data.packing.position import PackingWindowStart, StreamKey
from flexbert.data.packing.row_stream import Row, training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.data.sampling.chunks import NUM_SPECIALS
from flexbert.errors import ConfigError, UserError, first_line
from flexbert.metrics_file import METRICS, lines_of
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.schedule import schedules  # noqa: F401 - a recipe names them
from flexbert.schedule.batch_sizes import BatchSizes


@dataclass(frozen=True)
class RowSequence:
    """A chunk of a document as it stands in a row.

    Attributes:
        begin, end: its tokens in the row, special tokens included.
        first_token: the first of its tokens in the document.
        masked: which tokens of the document were to be predicted, in order.
    """

    source: str
    document: int
    begin: int
    end: int
    first_token: int
    masked: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Of the document."""
        return self.end - self.begin - NUM_SPECIALS


class OrderView:
    """A segment of a run's updates, with the means to make its rows again."""

    def __init__(self, log: OrderLog, segment: RunSegment, end_step: int) -> None:
        """
        Args:
            end_step: the last step of the run that was trained in this segment.

        Raises:
            UserError: if the corpora are no longer what the run was trained on.
        """
        self.segment = segment
        # Only what the order depends on: what a model is made of takes seconds to import.
        try:
            data = decode(DataConfig, segment.recipe["data"])
            batch = decode(BatchConfig, segment.recipe["batch"])
            schedule = segment.recipe["mask_rate_schedule"]
            self._mask_schedule: ScheduleConfig | None = schedule and decode(
                ScheduleConfig,  # type: ignore[type-abstract]
                schedule,
            )
            self._duration = Duration.parse(segment.recipe["duration"])
            seed = count(segment.recipe["seed"])
        except ConfigError as error:
            missing = missing_text(segment.recipe)
            raise UserError(f"the run was {missing} ({error})" if missing else str(error)) from None
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{log.folder}: the recipe of {segment.name} is not one ({first_line(error)})"
            ) from None
        if changed := changed_text(data, segment.recipe):
            raise UserError(f"the run's order is {changed}: give the plugins that it was run with")
        self._base_mask_rate = data.mask_rate
        self.corpora = Corpora.open(data)
        self.splits = splits = self.corpora.splits("train")
        key = StreamKey(seed, segment.stage, segment.generation)
        self.stream = training_stream(splits, data, key)
        now = describe_order(self.stream, splits, data, key)
        require_same_order(with_new_defaults(segment.order, data), now)
        self.builder = training_builder(self.stream, splits, data, key)
        sizes = BatchSizes.of(batch, data, self._duration)
        num_updates = end_step - segment.first_step
        updates = range(segment.first_update, segment.first_update + num_updates)
        # Rows of the stream before each update, and after the last.
        self.row_borders = np.cumsum([segment.first_row, *(sizes.rows(u) for u in updates)])
        self._index = log.index(segment, len(self.stream.mixture.buckets))

    @property
    def last_step(self) -> int:
        """The last step of the run in this segment."""
        return self.segment.first_step + len(self.row_borders) - 1

    @property
    def end_row(self) -> int:
        """Rows of the stream up to the last that was trained on."""
        return int(self.row_borders[-1])

    def step_of_row(self, row: int) -> tuple[int, int]:
        """The step of the run that a row of the segment was trained in, and its number there."""
        update = int(np.searchsorted(self.row_borders, row, side="right")) - 1
        return self.segment.first_step + update + 1, row - int(self.row_borders[update])

    def rows_of_step(self, step: int) -> list[Row]:
        """The rows of one step's global batch."""
        update = step - self.segment.first_step - 1
        first, end = self.row_borders[update : update + 2].tolist()
        start = self._window_of(first)
        rows = self.stream.rows(start, first - start.row)
        return list(itertools.islice(rows, end - first))

    @cached_property
    def drawn(self) -> tuple[int, ...]:
        """Chunks of each bucket in all windows that training has entered."""
        # A record tells where its window begins.
        last = self._index.start(self._records, len(self._records) - 1)
        return self.stream.packing_window(last).next.chunks

    def places(self, bucket: int, numbers: np.ndarray) -> np.ndarray:
        """Where these chunks of a bucket stand in every epoch that was begun (int64, ascending).

        Places count on over epochs; those below ``drawn[bucket]`` were drawn.
        """
        size = len(self.stream.mixture.buckets[bucket].chunks)
        order = self.stream.mixture.buckets[bucket].sampler
        places = [
            epoch * size + order.places(epoch, numbers)
            for epoch in range(-(-self.drawn[bucket] // size))
        ]
        return np.sort(np.concatenate([np.empty(0, np.int64), *places]))

    def rows_with(self, bucket: int, numbers: np.ndarray, places: np.ndarray) -> Iterator[Row]:
        """Every row that was trained on with one of these chunks of a bucket, in order.

        Args:
            places: see :meth:`places`.
        """
        records = self._records
        drawn = places[places < self.drawn[bucket]]
        windows = np.searchsorted(records[:, 1 + bucket], drawn, side="right") - 1
        for window in np.unique(windows).tolist():
            packed = self.stream.packing_window(self._index.start(records, window))
            for index in range(packed.num_rows):
                row = packed.row(index)
                found = np.isin(row.drawn.numbers[row.drawn.buckets == bucket], numbers)
                place = packed.start.row + index
                if found.any() and self.segment.first_row <= place < self.end_row:
                    yield row

    def sequences(self, row: Row) -> list[RowSequence]:
        """What stands in a row."""
        microbatch = self.builder.build([row], self._mask_rate(row))
        masked = np.asarray(microbatch["masked_positions"])[: microbatch["num_masked"]]
        begin = 0
        found = []
        for bucket, number, length in zip(
            row.drawn.buckets.tolist(),
            row.drawn.numbers.tolist(),
            row.drawn.lengths.tolist(),
            strict=True,
        ):
            chunks = self.stream.mixture.buckets[bucket].chunks
            (document,), (first,), _ = chunks.locate(np.array([number]))
            inside = masked[(masked >= begin) & (masked < begin + length)]
            # [CLS] stands before the chunk's first token.
            tokens = tuple((inside - begin - 1 + first).tolist())
            source = self.stream.mixture.buckets[bucket].source
            found.append(
                RowSequence(source, int(document), begin, begin + length, int(first), tokens)
            )
            begin += length
        return found

    @cached_property
    def _records(self) -> np.ndarray:
        return self._index.complete(self.stream, self.end_row)

    def _mask_rate(self, row: Row) -> float | None:
        """The share of tokens that was selected in the update of a row; None: as ever."""
        if self._mask_schedule is None:
            return None
        segment = self.segment
        update = self.step_of_row(row.start.row + row.index)[0] - segment.first_step - 1
        tokens = self._tokens_before(int(self.row_borders[update]))
        clock = StageClock(
            tokens=segment.first_tokens + tokens - self._tokens_before(segment.first_row),
            updates=segment.first_update + update,
            duration=self._duration,
        )
        return self._base_mask_rate * self._mask_schedule.multiplier(clock)

    def _tokens_before(self, row: int) -> int:
        """Tokens of the stream before one of its rows."""
        start = self._window_of(row)
        rows = itertools.islice(self.stream.rows(start), row - start.row)
        return sum(start.tokens) + sum(before.num_tokens for before in rows)

    def _window_of(self, row: int) -> PackingWindowStart:
        """The window that a row of the stream is in."""
        window = int(np.searchsorted(self._records[:, 0], row, side="right")) - 1
        return self._index.start(self._records, window)


def order_views(run_folder: Path) -> list[OrderView]:
    """Every segment of a run that was trained on, in order.

    Raises:
        UserError: if there is no such run, or its corpora are no longer what it was trained on.
    """
    log = OrderLog(run_folder / "orders")
    segments = log.segments()
    if not segments:
        raise UserError(f"{run_folder}: no run that tells its data order (no orders/ in it)")
    ends = [segment.first_step for segment in segments[1:]] + [last_step(run_folder)]
    return [
        OrderView(log, segment, end)
        for segment, end in zip(segments, ends, strict=True)
        if end > segment.first_step
    ]


def last_step(run_folder: Path) -> int:
    """The last step of a run that there is a record or a checkpoint of."""
    steps = [checkpoint_step(path) for path in list_checkpoints(run_folder / "checkpoints")]
    metrics = run_folder / METRICS
    if metrics.is_file():
        try:
            steps += [line.step for line in lines_of(metrics)[0]]
        except OSError as error:
            raise UserError(f"{metrics}: cannot be read ({error.strerror or error})") from None
    return max(steps, default=0)
