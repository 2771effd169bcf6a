"""What a run recorded: its ``metrics.jsonl``, one object a line.

A line that a crash has cut, or a disk has damaged, loses itself alone: readers pass it over.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.plain_values import count, text, value_of
from flexbert.config.tree import flatten
from flexbert.errors import UserError
from flexbert.files.durable import write_text
from flexbert.files.line_file import append_lines, json_line
from flexbert.files.set_aside import set_aside, tell_set_aside

METRICS = "metrics.jsonl"
# Of a stage that has early stopping: the record of what it ended with.
STAGE_END = "stage_end"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was measured at one point of a run.

    Attributes:
        event: ``train``, ``eval`` or ``stage_end``.
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
            name: number_or_nan(value)
            for name, value in flatten(plain).items()
            if name not in header and (value is None or type(value) in (int, float))
        }
        return cls(**header, numbers=numbers)


def number_or_nan(value: Any) -> float:
    """A number as it is, and nan for what JSON cannot hold; raises TypeError for anything else."""
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        raise TypeError(f"no number ({type(value).__name__})")
    found: float = value
    return found if -1e300 < found < 1e300 else math.nan


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


def drop_lines_after(file: Path, step: int) -> None:
    """Forget lines of updates that a resume will run again, and a half-written last line.

    A reader, or a kill at any moment, sees the old file or the new one. A file with lines that
    cannot be read, or whose lines no checkpoint holds, is kept under another name.

    Raises:
        UserError: if the file cannot be read or written.
    """
    if not file.exists():
        return
    try:
        lines, num_bad = lines_of(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    if step == 0 and lines:
        # Of a run whose checkpoints somebody took away, perhaps; or of one killed before its first.
        last = max(line.step for line in lines)
        problem = f"no checkpoint holds what it records, up to step {last}"
        tell_set_aside(file, set_aside(file), problem)
        return
    if num_bad:
        tell_set_aside(file, set_aside(file), f"{num_bad} lines of it are no records")
    write_text(file, "".join(line.text + "\n" for line in lines if line.step <= step))


def read_metrics(run_folder: Path, event: str | None = None) -> list[Record]:
    """The records of a run, oldest first; what is no record is passed over with a warning.

    Args:
        event: for the records of this one alone.

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


def restored_steps(records: Iterable[Record]) -> set[int]:
    """Steps whose checkpoints have the weights of another step, with which their stage ended."""
    return {
        record.step
        for record in records
        if record.event == STAGE_END and record.numbers.get("restored_step", math.nan) >= 0
    }


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
        """Add a line, as :func:`~flexbert.files.line_file.json_line` writes it."""
        self._waiting.append(json_line(record))
        self._write(sync=False)

    def flush(self) -> None:
        """Wait until all lines are on the disk, as far as it takes them."""
        self._write(sync=True)

    def _write(self, sync: bool) -> None:
        try:
            append_lines(self._file, self._waiting, sync=sync)
            self._told = False
        except OSError as error:
            if not self._told:
                self._told = True
                print(
                    f"warning: {self._file}: cannot be written ({error.strerror or error}); "
                    "training goes on, and what it records waits in memory",
                    file=sys.stderr,
                    flush=True,
                )
