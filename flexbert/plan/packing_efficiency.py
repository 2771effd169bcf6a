"""How full rows will be, and so how many updates a stage takes, from the corpus's own lengths."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from flexbert.data.packing.row_stream import StreamKey, sampling_stream, training_stream
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.mixture import BucketShare
from flexbert.schedule.stages import Stage

# Up to this many rows a stage is packed from end to end and its steps counted; beyond, its first
# rows tell how full the others will be.
MAX_ROWS_PACKED = 100_000


@dataclass(frozen=True, kw_only=True)
class StageLength:
    """How long a stage is.

    Attributes:
        tokens: real tokens.
        steps: updates.
        steps_are: how they are known, in words.
    """

    tokens: int
    steps: int
    steps_are: str


@dataclass(frozen=True, kw_only=True)
class PackingEfficiency:
    """How a stage's corpora fill its rows.

    Attributes:
        length: of the stage, with rows as full as they are.
        efficiency: real tokens over all positions of rows, between 0 and 1.
        sources: what the stage takes from each bucket, by the bucket's name.
    """

    length: StageLength
    efficiency: float
    sources: Mapping[str, BucketShare]


def nominal_length(stage: Stage) -> StageLength:
    """The length that is known without a corpus."""
    return StageLength(
        tokens=stage.nominal_tokens,
        steps=stage.nominal_updates,
        steps_are="nominal: as if every row were full",
    )


def pack_stage(stage: Stage, train: Mapping[str, Split]) -> PackingEfficiency:
    """Pack a stage's rows, or a sample of them, from the real lengths of documents."""
    recipe, batches = stage.recipe, stage.batches
    nominal_rows = batches.rows_before(stage.nominal_updates)
    stream = sampling_stream(train, recipe.data)
    countable = (
        nominal_rows <= MAX_ROWS_PACKED and stream.mixture.num_chunks <= 100 * MAX_ROWS_PACKED
    )
    if countable:
        stream = training_stream(train, recipe.data, StreamKey(recipe.seed, stage.name))
    # Otherwise the corpora's own order will do for a sample, and needs no file to be built.
    all_rows = stream.rows()
    tokens = rows = updates = 0
    clock = stage.clock(0, 0)
    while not clock.finished and (countable or rows < MAX_ROWS_PACKED):
        for row in itertools.islice(all_rows, batches.rows(updates)):
            tokens += row.num_tokens
            rows += 1
        updates += 1
        clock = stage.clock(tokens, updates)
    efficiency = tokens / (rows * recipe.data.row_length)
    if not clock.finished:
        if stage.duration.unit == "tok":
            tokens = stage.nominal_tokens
            updates = batches.updates_for(tokens / efficiency / recipe.data.row_length)
        else:
            updates = stage.nominal_updates
            tokens = round(stage.nominal_tokens * efficiency)
    steps_are = "exact" if clock.finished else "estimated from a sample of packed rows"
    return PackingEfficiency(
        length=StageLength(tokens=tokens, steps=updates, steps_are=steps_are),
        efficiency=efficiency,
        sources=stream.mixture.describe(tokens),
    )
