"""Where a stage's data stands: small records that go with every batch and into every checkpoint.

Each has ``plain()``, containers that a file can hold, and ``read()``, which takes them back and
raises KeyError, TypeError or ValueError where they are no such record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from flexbert.config.plain_values import count, counts, dict_of, scalar, text, value_of

OrderDescription: TypeAlias = dict[str, str | int | float]


@dataclass(frozen=True)
class StreamKey:
    """What the random numbers of a stage's data are drawn from, apart from its sources.

    Attributes:
        generation: how often the stage's order was begun again.
    """

    seed: int
    stage: str
    generation: int = 0

    @property
    def stage_order(self) -> str:
        """Names the stage's order: no two stages repeat one, nor two generations."""
        return f"{self.stage}#{self.generation}" if self.generation else self.stage


@dataclass(frozen=True)
class PackingWindowStart:
    """Where a packing window begins; these few numbers stand for everything before it.

    Attributes:
        index: the window's number.
        row: rows of all windows before it.
        chunks, tokens: what they drew from each bucket of the mixture, special tokens included.
    """

    index: int
    row: int
    chunks: tuple[int, ...]
    tokens: tuple[int, ...]

    def plain(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "row": self.row,
            "chunks": list(self.chunks),
            "tokens": list(self.tokens),
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> PackingWindowStart:
        return cls(
            index=value_of(plain, "index", count),
            row=value_of(plain, "row", count),
            chunks=value_of(plain, "chunks", counts),
            tokens=value_of(plain, "tokens", counts),
        )


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in a stage's stream: before row ``row`` of a packing window.

    A class of its own, because torch makes containers that a batch holds into tensors, and
    Composer puts tensors onto the GPU.

    Attributes:
        packing_window: where that window begins, so that no earlier one has to be packed again.
        update: the next update of the stage, which begins here.
        tokens: real tokens of the stage's earlier updates.
    """

    packing_window: PackingWindowStart
    row: int
    update: int
    tokens: int

    def plain(self) -> dict[str, Any]:
        return {
            "packing_window": self.packing_window.plain(),
            "row": self.row,
            "update": self.update,
            "tokens": self.tokens,
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Position:
        return cls(
            packing_window=PackingWindowStart.read(dict_of(plain, "packing_window")),
            row=value_of(plain, "row", count),
            update=value_of(plain, "update", count),
            tokens=value_of(plain, "tokens", count),
        )


@dataclass(frozen=True, kw_only=True)
class DataState:
    """What a checkpoint keeps of a stage's data: all that a run needs to go on with it.

    Attributes:
        generation: as :class:`StreamKey` has it.
        order: everything that the order depends on, to be sure that it is still the same.
        skipped_rows: of the stage's stream, passed over after losses that jumped.
    """

    stage: str
    generation: int
    position: Position
    order: OrderDescription
    skipped_rows: int = 0

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "position": self.position.plain()}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> DataState:
        return cls(
            stage=value_of(plain, "stage", text),
            generation=value_of(plain, "generation", count),
            position=Position.read(dict_of(plain, "position")),
            order=dict_of(plain, "order", scalar),
            skipped_rows=value_of(plain, "skipped_rows", count),
        )
