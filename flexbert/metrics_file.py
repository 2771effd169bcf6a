"""What a run recorded: its ``metrics.jsonl``, one object a line.

A line that a crash has cut, or a disk has damaged, loses itself alone: readers pass it over.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.plain_values import count, text, value_of
from flexbert.config.tree import flatten
from flexbert.errors import UserError
from flexbert.files.durable import sync_folder
from flexbert.files.line_file import close_line, json_line, write_whole

METRICS = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was measured at one point of a run.

    Attributes:
        event: ``train`` or ``eval``.
        step: updates of the whole run.
        tokens: real tokens of the whole run.
        stage_tokens: real tokens of the stage.
        numbers: all that was measured, by dotted name: ``loss``, ``lr``, ``eval_losses.SOURCE``;
            nan where it was no finite number.
    """

    event: str
    stage: str
    step: int
    tokens: int
    stage_tokens: int
    numbers: Mapping[str, float]

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Record:
        """Read one line's object.

        Raises:
            KeyError, TypeError, ValueError: if it is not a record.
        """
        header: dict[str, Any] = {
            "event": value_of(plain, "event", text),
            "stage": value_of(plain, "stage", text),
            "step": value_of(plain, "step", count),
            "tokens": value_of(plain, "tokens", count),
            "stage_tokens": value_of(plain, "stage_tokens", count),
        }
        numbers = {
            name: _number(value)
            for name, value in flatten(plain).items()
            if name not in header and (value is None or isinstance(value, int | float))
        }
        return cls(**header, numbers=numbers)


def _number(value: float | None) -> float:
    """A number as it is, and nan for what JSON cannot hold."""
    if value is None or not -1e300 < value < 1e300:
        return math.nan
    return value


@dataclass(frozen=True)
class Line:
    """A line that can be read.

    Attributes:
        text: as it stands there, without its end.
        plain: its object.
        step: updates of the whole run.
    """

    text: str
    plain: Mapping[str, Any]
    step: int


def lines_of(file: Path) -> tuple[list[Line], int]:
    """The lines of a ``metrics.jsonl`` that can be read, and how many cannot.

    A half last line does not count: a kill has cut it, or it is being written.

    Raises:
        OSError: if the file cannot be read.
    """
    *whole, last = file.read_bytes().split(b"\n")
    lines = [line for content in whole if (line := _line(content)) is not None]
    num_bad = len(whole) - len(lines)
    if (unfinished := _line(last)) is not None:
        lines.append(unfinished)
    return lines, num_bad


def _line(content: bytes) -> Line | None:
    try:
        text = content.decode()
        plain = json.loads(text)
        return Line(text, plain, value_of(plain, "step", count))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_metrics(run_folder: Path, event: str | None = None) -> list[Record]:
    """The records of a run, oldest first; what is no record is passed over with a warning.

    Args:
        event: ``train`` or ``eval`` for these alone.

    Raises:
        UserError: if nothing is recorded, or nothing of it can be read.
    """
    file = run_folder / METRICS
    if not file.is_file():
        raise UserError(f"{run_folder}: no {METRICS} there; give the folder of a run, runs/NAME")
    try:
        lines, num_bad = lines_of(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    records = list(_records(lines))
    num_bad += len(lines) - len(records)
    if not records:
        problem = f"none of its {num_bad} lines is a record" if num_bad else "nothing is recorded"
        raise UserError(f"{file}: {problem}" + ("" if num_bad else " yet"))
    if num_bad:
        print(
            f"warning: {file}: {num_bad} lines are no records, and are passed over", file=sys.stderr
        )
    return [record for record in records if event in (None, record.event)]


def _records(lines: list[Line]) -> Iterator[Record]:
    for line in lines:
        try:
            yield Record.read(line.plain)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


class MetricsWriter:
    """Appends records to a ``metrics.jsonl``; a full disk does not end what is being recorded.

    Lines that cannot be written are kept in memory and written before the next, in order.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._waiting: list[bytes] = []
        self._told = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line, in JSON that every reader takes: what is no finite number becomes null."""
        self._waiting.append(json_line(record))
        self._write(sync=False)

    def flush(self) -> None:
        """Wait until all lines are on the disk, as far as it takes them."""
        self._write(sync=True)

    def _write(self, sync: bool) -> None:
        try:
            self._try_to_write(sync)
        except OSError as error:
            if not self._told:
                self._told = True
                print(
                    f"warning: {self._file}: cannot be written ({error.strerror or error}); "
                    "training goes on, and what it records waits in memory",
                    file=sys.stderr,
                    flush=True,
                )

    def _try_to_write(self, sync: bool) -> None:
        is_new = not self._file.exists()
        if is_new and not self._waiting:
            return
        # Unbuffered, so that what was written is known.
        with self._file.open("ab", buffering=0) as file:
            descriptor = file.fileno()
            if self._waiting:
                close_line(self._file, descriptor)
            while self._waiting:
                before = os.fstat(descriptor).st_size
                try:
                    write_whole(descriptor, self._waiting[0])
                except OSError:
                    # No half line stays; where that fails too, it is closed before the next.
                    os.ftruncate(descriptor, before)
                    raise
                del self._waiting[0]
            if sync:
                os.fsync(descriptor)
        if sync and is_new:
            sync_folder(self._file.parent)
        self._told = False
