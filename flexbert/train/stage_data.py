"""A stage's data as a launch continues it: its stream, and the place to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexbert.data.packing.loader import Position, first_position
from flexbert.data.packing.order_description import (
    OrderDescription,
    describe_order,
    require_same_order,
)
from flexbert.data.packing.row_stream import RowStream, StreamKey, training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Split
from flexbert.schedule.stages import Stage


@dataclass(frozen=True, kw_only=True)
class StageData:
    """
    Attributes:
        splits: the training split of each source.
        order: everything that the stream depends on.
        start: where training goes on.
    """

    splits: Mapping[str, Split]
    stream: RowStream
    key: StreamKey
    order: OrderDescription
    start: Position

    def state(self, position: Position) -> dict[str, Any]:
        """What a checkpoint keeps of the data."""
        return {
            "position": position,
            "order": self.order,
            "stage": self.key.stage,
            "generation": self.key.generation,
        }


def open_stage_data(stage: Stage, corpora: Corpora, saved: Mapping[str, Any] | None) -> StageData:
    """The data of a stage from its beginning, or from where a checkpoint left it.

    Args:
        saved: what :meth:`StageData.state` gave.

    Raises:
        UserError: if the data is not what the checkpoint was trained on, and that is not accepted.
    """
    config = stage.recipe.data
    splits = corpora.splits("train")
    clock: Mapping[str, Any] = saved["position"] if saved else {"update": 0, "tokens": 0}

    def at(generation: int, start: Position | None = None) -> StageData:
        key = StreamKey(stage.recipe.seed, stage.name, generation)
        stream = training_stream(splits, config, key)
        return StageData(
            splits=splits,
            stream=stream,
            key=key,
            order=describe_order(stream, splits, config, key),
            start=start or first_position(stream, clock["update"], clock["tokens"]),
        )

    if saved is None:
        return at(0)
    generation = saved["generation"]
    data = at(generation, saved["position"])
    if data.order != saved["order"]:
        if not config.accept_changed_order:
            require_same_order(saved["order"], data.order)
        # Another generation: the old order from its beginning would repeat what was seen.
        data = at(generation + 1)
    return data
