"""A stage's data as a launch continues it: its stream, and the place to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flexbert.data.packing.loader import first_position
from flexbert.data.packing.order_description import (
    describe_order,
    require_same_order,
    with_new_defaults,
)
from flexbert.data.packing.position import DataState, OrderDescription, Position, StreamKey
from flexbert.data.packing.row_stream import RowStream, training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Split
from flexbert.errors import UserError
from flexbert.schedule.stages import Stage


@dataclass(frozen=True, kw_only=True)
class StageData:
    """
    Attributes:
        splits: the training split of each source.
        order: everything that the stream depends on.
        start: where training goes on.
        skipped_rows: of the stream before that were passed over.
    """

    splits: Mapping[str, Split]
    stream: RowStream
    key: StreamKey
    order: OrderDescription
    start: Position
    skipped_rows: int = 0

    def state(self, position: Position) -> DataState:
        """What a checkpoint keeps of the data."""
        return DataState(
            stage=self.key.stage,
            generation=self.key.generation,
            position=position,
            order=self.order,
            skipped_rows=self.skipped_rows,
        )


def open_stage_data(stage: Stage, corpora: Corpora, saved: DataState | None) -> StageData:
    """The data of a stage from its beginning, or from where a checkpoint left it.

    Args:
        saved: the place of a checkpoint; None begins the stage.

    Raises:
        UserError: if the data is not what the checkpoint was trained on, and that is not accepted;
            or if the checkpoint's place is none of it.
    """
    config = stage.recipe.data
    splits = corpora.splits("train")
    update, tokens = (saved.position.update, saved.position.tokens) if saved else (0, 0)

    def at(generation: int, start: Position | None = None, skipped_rows: int = 0) -> StageData:
        key = StreamKey(stage.recipe.seed, stage.name, generation)
        stream = training_stream(splits, config, key)
        return StageData(
            splits=splits,
            stream=stream,
            key=key,
            order=describe_order(stream, splits, config, key),
            start=start or first_position(stream, update, tokens),
            skipped_rows=skipped_rows,
        )

    if saved is None:
        return at(0)
    data = at(saved.generation, saved.position, saved.skipped_rows)
    before = with_new_defaults(saved.order, config)
    if data.order != before:
        if not config.accept_changed_order:
            require_same_order(before, data.order)
        # Another generation: the old order from its beginning would repeat what was seen.
        return at(saved.generation + 1)
    if not data.stream.has(saved.position.packing_window, saved.position.row):
        raise UserError(
            f"the checkpoint to go on from has a place in the data of stage {stage.name} that is "
            "none: give another checkpoint"
        )
    return data
