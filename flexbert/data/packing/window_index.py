"""Where each window of a stage's stream begins: a file that makes looking back cheap.

It is written while training goes on and can always be made again from the stream. Records have one
size, and window w's is at w times that size. Each ends with a hash of itself, so that what a crash
left half written is known for what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xxhash
from tqdm import tqdm

from flexbert.data.packing.position import PackingWindowStart
from flexbert.data.packing.row_stream import RowStream

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

    def write(self, starts: Iterable[PackingWindowStart]) -> None:
        """Add, or replace, these windows' records."""
        starts = list(starts)
        if not starts:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        with self._file.open("r+b") as file:
            for start in starts:
                file.seek(start.index * self._fields * _INT.itemsize)
                content = np.array([start.row, *start.chunks, *start.tokens], _INT).tobytes()
                file.write(content + _checksum(start.index, content))

    def complete(self, stream: RowStream, row: int) -> np.ndarray:
        """The records of all windows that begin before row ``row``; missing ones are made again.

        Returns:
            int64 ``[W, 2 + 2 P]``: rows before the window, then chunks and tokens of each bucket,
            and a hash.
        """
        records = self._read()
        known = len(records)
        start = stream.start if known == 0 else self.start(records, known - 1)
        if known == 0 or start.row < row:
            made = [start]
            with tqdm(desc="window index", unit=" rows", total=row, disable=None) as progress:
                progress.update(start.row)
                while start.row < row:
                    before, start = start, stream.packing_window(start).next
                    made.append(start)
                    progress.update(start.row - before.row)
            self.write(made)
            records = self._read()
        return records[: np.searchsorted(records[:, 0], max(row, 1), side="left")]

    def start(self, records: np.ndarray, window: int) -> PackingWindowStart:
        """One of the records that :meth:`complete` gives."""
        row, *drawn, _ = records[window].tolist()
        buckets = self._num_buckets
        return PackingWindowStart(window, row, tuple(drawn[:buckets]), tuple(drawn[buckets:]))

    def _read(self) -> np.ndarray:
        """All records before the first that is not sound."""
        if not self._file.exists():
            return np.empty((0, self._fields), _INT)
        content = self._file.read_bytes()
        size = self._fields * _INT.itemsize
        num_sound = 0
        for begin in range(0, len(content) - size + 1, size):
            end = begin + size - _INT.itemsize
            if _checksum(num_sound, content[begin:end]) != content[end : begin + size]:
                break
            num_sound += 1
        return np.frombuffer(content, _INT, num_sound * self._fields).reshape(-1, self._fields)


def _checksum(window: int, content: bytes) -> bytes:
    return xxhash.xxh3_64(content, seed=window).digest()
