"""What a run's data order was, segment by segment: enough to tell later what each step saw.

A segment is a run of updates over one order: a stage, or what follows where a changed order was
accepted. Its folder in the run's holds ``00000-pretrain.json`` and ``00000-pretrain.windows``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flexbert.config.plain_values import as_dict, count, dict_of, scalar, text, tree, value_of
from flexbert.data.packing.position import OrderDescription
from flexbert.data.packing.window_index import PackingWindowIndex
from flexbert.errors import UserError, first_line
from flexbert.files.durable import make_folder, write_errors, write_text
from flexbert.files.regular import load_json
from flexbert.files.set_aside import make_way, set_aside

_NUMBERED = re.compile(r"(\d{5,18})-")


@dataclass(frozen=True, kw_only=True)
class RunSegment:
    """Updates over one order.

    Attributes:
        number: its place among the run's segments.
        first_step: updates of the run before it.
        first_update: updates of its stage before it.
        first_tokens: tokens of its stage before it.
        first_row: rows of its stream before it.
        recipe: the resolved recipe of its stage.
        order: see :func:`flexbert.data.packing.order_description.describe_order`.
        skipped_rows: of its stage's stream, passed over before it.
    """

    number: int
    stage: str
    generation: int
    first_step: int
    first_update: int
    first_tokens: int
    first_row: int
    recipe: Mapping[str, Any]
    order: OrderDescription
    skipped_rows: int = 0

    @property
    def name(self) -> str:
        return f"{self.number:05d}-{self.stage}"

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> RunSegment:
        """Read a file's object.

        Raises:
            KeyError, TypeError, ValueError: if it is not a segment.
        """
        return cls(
            number=value_of(plain, "number", count),
            stage=value_of(plain, "stage", text),
            generation=value_of(plain, "generation", count),
            first_step=value_of(plain, "first_step", count),
            first_update=value_of(plain, "first_update", count),
            first_tokens=value_of(plain, "first_tokens", count),
            first_row=value_of(plain, "first_row", count),
            recipe=value_of(plain, "recipe", tree),
            order=dict_of(plain, "order", scalar),
            skipped_rows=value_of(plain, "skipped_rows", count),
        )

    def has_order_of(self, other: RunSegment) -> bool:
        """Whether both are updates over the same order, without rows passed over between them."""
        return (self.stage, self.generation, self.order, self.skipped_rows) == (
            other.stage,
            other.generation,
            other.order,
            other.skipped_rows,
        )


class DamagedSegmentError(UserError):
    """A file of the folder is not what was written."""


class OrderLog:
    """The folder of a run that tells its data order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def segments(self) -> list[RunSegment]:
        """All segments, in order.

        Raises:
            UserError: if one is damaged or missing: then nobody knows where its neighbour ends.
        """
        segments = [self._read(file) for file in self._files()]
        for number, segment in enumerate(segments):
            if segment.number != number:
                raise UserError(
                    f"{self.folder}: run segment {number} is missing, so that not all of the run's "
                    "order is known"
                )
        return segments

    def resume(self, step: int, segment: RunSegment) -> RunSegment:
        """Forget what came after ``step``, and begin ``segment`` if the last one has another order.

        A segment that is damaged is set aside; its number stays taken, so that the gap shows.

        Args:
            segment: what training would begin now.

        Returns:
            The segment that training goes on with.

        Raises:
            WriteError: if the folder cannot be written.
        """
        if way := make_way(self.folder, for_folder=True):
            _warn(f"{self.folder}: no folder; it is kept as {way.name}")
        make_folder(self.folder)
        kept = []
        for file in self._files():
            try:
                old = self._read(file)
            except DamagedSegmentError as error:
                _warn(f"{error}; it is kept as {set_aside(file).name}")
                continue
            if old.first_step < step or (old.first_step == step and old.has_order_of(segment)):
                kept.append(old)
            else:
                with write_errors(file):
                    file.unlink()
                    self._windows(old).unlink(missing_ok=True)
        last = kept[-1] if kept else None
        if last is not None and last.has_order_of(segment):
            # Corpora may have moved.
            begun = replace(last, recipe=segment.recipe)
        else:
            # Before the first update nothing is lost that anybody could look back on.
            begun = replace(segment, number=self._next_number() if step else 0)
        if aside := make_way(self._windows(begun)):
            _warn(f"{self._windows(begun)}: no file; it is kept as {aside.name}")
        write_text(self._file(begun), json.dumps(asdict(begun), indent=1) + "\n")
        return begun

    def index(self, segment: RunSegment, num_buckets: int) -> PackingWindowIndex:
        """The windows of a segment's stream."""
        return PackingWindowIndex(self._windows(segment), num_buckets)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _next_number(self) -> int:
        """After those of all segments, damaged ones among them."""
        numbers = [
            int(match[1])
            for path in self.folder.glob("*.json*")
            if (match := _NUMBERED.match(path.name))
        ]
        return max(numbers, default=-1) + 1

    def _read(self, file: Path) -> RunSegment:
        try:
            segment = RunSegment.read(as_dict(load_json(file)))
            if file != self._file(segment):
                raise ValueError(f"that of {segment.name}")
            return segment
        except OSError as error:
            if not file.is_file():
                raise DamagedSegmentError(f"{file}: not a run segment (no file)") from None
            raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedSegmentError(f"{file}: not a run segment ({first_line(error)})") from None

    def _windows(self, segment: RunSegment) -> Path:
        return self.folder / f"{segment.name}.windows"

    def _file(self, segment: RunSegment) -> Path:
        return self.folder / f"{segment.name}.json"


def _warn(text: str) -> None:
    print(f"warning: {text}", flush=True)
