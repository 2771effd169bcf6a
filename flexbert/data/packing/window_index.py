"""Where each window of a stage's stream begins: a file that makes looking back cheap.

It is written while training goes on and can always be made again from the stream. Records have one
size, and window w's is at w times that size. Each ends with a hash of itself, so that what a crash
left half written is known for what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash

from flexbert.data.packing.position import PackingWindowStart
from flexbert.data.packing.row_stream import RowStream
from flexbert.errors import UserError
from flexbert.files.progress_bar import ProgressBar

_INT = np.dtype("<i8")


class PackingWindowIndex:
    """The beginnings of the windows of one stream, in a file."""

    def __init__(self, file: Path, num_buckets: int) -> None:
        """
        Args:
            num_buckets: buckets of the stream's mixture.
        """
        self._file = file
        self._num_buckets = num_buckets
        self._fields = 2 + 2 * num_buckets
        self._told = False

    def write(self, starts: Iterable[PackingWindowStart]) -> None:
        """Add, or replace, these windows' records.

        A disk that does not take them ends nothing: they can be made again. That is said once.
        """
        try:
            self._write(list(starts))
        except OSError as error:
            if not self._told:
                self._told = True
                print(
                    f"warning: {self._file}: cannot be written ({error.strerror or error}); "
                    "looking back on the run's order will take longer",
                    file=sys.stderr,
                    flush=True,
                )

    def _write(self, starts: Sequence[PackingWindowStart]) -> None:
        if not starts:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        # Unbuffered: an error concerns the record that it is raised for.
        with self._file.open("r+b", buffering=0) as file:
            for start in starts:
                file.seek(start.index * self._fields * _INT.itemsize)
                file.write(self._record(start))

    def _record(self, start: PackingWindowStart) -> bytes:
        content = np.array([start.row, *start.chunks, *start.tokens], _INT).tobytes()
        return content + _checksum(start.index, content)

    def complete(self, stream: RowStream, row: int) -> np.ndarray:
        """The records of all windows that begin before row ``row``; missing ones are made again.

        Returns:
            int64 ``[W, 2 + 2 P]``: rows before the window, then chunks and tokens of each bucket,
            and a hash.

        Raises:
            UserError: if the file is there and cannot be read.
        """
        records = self._read()
        known = len(records)
        start = stream.start if known == 0 else self.start(records, known - 1)
        if known == 0 or start.row < row:
            made = [start]
            with ProgressBar(
                desc="window index", unit=" rows", total=row, disable=None
            ) as progress:
                progress.update(start.row)
                while start.row < row:
                    before, start = start, stream.packing_window(start).next
                    made.append(start)
                    progress.update(start.row - before.row)
            self.write(made)
            # Not read back: the folder may be one that only others may write to.
            added = b"".join(map(self._record, made))
            records = np.concatenate([records[: made[0].index], self._parsed(added)])
        return records[: np.searchsorted(records[:, 0], max(row, 1), side="left")]

    def start(self, records: np.ndarray, window: int) -> PackingWindowStart:
        """One of the records that :meth:`complete` gives."""
        row, *drawn, _ = records[window].tolist()
        buckets = self._num_buckets
        return PackingWindowStart(window, row, tuple(drawn[:buckets]), tuple(drawn[buckets:]))

    def _read(self) -> np.ndarray:
        """All records before the first that is not sound."""
        try:
            content = self._file.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            content = b""
        except OSError as error:
            raise UserError(f"{self._file}: cannot be read ({error.strerror or error})") from None
        size = self._fields * _INT.itemsize
        num_sound = 0
        for begin in range(0, len(content) - size + 1, size):
            end = begin + size - _INT.itemsize
            if _checksum(num_sound, content[begin:end]) != content[end : begin + size]:
                break
            num_sound += 1
        return self._parsed(content[: num_sound * size])

    def _parsed(self, content: bytes) -> np.ndarray:
        return np.frombuffer(content, _INT).reshape(-1, self._fields)


def _checksum(window: int, content: bytes) -> bytes:
    return xxhash.xxh3_64(content, seed=window).digest()
