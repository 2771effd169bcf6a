"""In which order the pieces of a split are seen: a permutation an epoch, cut into windows."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from flexbert.data.keys import derive_key, number_dtype, shuffled
from flexbert.errors import UserError

IN_MEMORY = 1 << 20
_CHUNK = 1 << 26


class PieceOrder(Protocol):
    """Which pieces stand in a window, and in which order the rows packed from them come."""

    def pieces(self, window: int) -> np.ndarray:
        """Piece numbers of a window; windows count on from one epoch to the next."""

    def rows(self, window: int, num_rows: int) -> np.ndarray:
        """A permutation of the window's packed rows."""


@dataclass(frozen=True)
class Windows:
    """An epoch of ``num_pieces`` cut into the fewest windows of at most ``size``, nearly equal."""

    num_pieces: int
    size: int

    @property
    def per_epoch(self) -> int:
        return -(-self.num_pieces // self.size)

    def bounds(self, window: int) -> tuple[int, int, int]:
        """``(epoch, begin, end)``: the window is that epoch's pieces from begin up to end."""
        epoch, index = divmod(window, self.per_epoch)
        begin = index * self.num_pieces // self.per_epoch
        end = (index + 1) * self.num_pieces // self.per_epoch
        return epoch, begin, end


@dataclass(frozen=True)
class ShuffledOrder:
    """A global permutation of the pieces for every (seed, stage, source, epoch).

    Attributes:
        source: identifies the split; see :attr:`flexbert.data.corpus.Split.fingerprint`.
        cache: folder for the permutations of large epochs.
    """

    windows: Windows
    seed: int
    stage: str
    source: str
    cache: Path

    def pieces(self, window: int) -> np.ndarray:
        epoch, begin, end = self.windows.bounds(window)
        key = derive_key("pieces", self.seed, self.stage, self.source, epoch)
        return permutation(self.windows.num_pieces, key, self.cache)[begin:end]

    def rows(self, window: int, num_rows: int) -> np.ndarray:
        return shuffled(num_rows, derive_key("rows", self.seed, self.stage, self.source, window))


@dataclass(frozen=True)
class FixedOrder:
    """The pieces as they are numbered, the rows as they are packed: the order of evaluation."""

    windows: Windows

    def pieces(self, window: int) -> np.ndarray:
        _, begin, end = self.windows.bounds(window)
        return np.arange(begin, end)

    def rows(self, window: int, num_rows: int) -> np.ndarray:
        return np.arange(num_rows)


@lru_cache(maxsize=2)
def permutation(num_items: int, key: int, cache: Path) -> np.ndarray:
    """A shuffle of the numbers below ``num_items``, which only ``key`` decides.

    Up to ``IN_MEMORY`` items it is made where it is needed, within milliseconds. A larger one is
    made once a node, by whichever process comes first, and memory-mapped by all. The lock is the
    kernel's and dies with its holder, and the file takes its name only when complete: a builder
    that is killed leaves nothing behind that another could stumble over.

    Raises:
        UserError: if the file cannot be written.
    """
    if num_items <= IN_MEMORY:
        return shuffled(num_items, key)
    file = cache / f"{key:032x}-{num_items}.order"
    if not file.exists():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with file.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not file.exists():
                    _write(file, shuffled(num_items, key))
        except OSError as error:
            raise UserError(
                f"{file}: cannot be written ({error.strerror}); an epoch's order needs 4 bytes for "
                f"each of its {num_items} pieces, set data.cache to a folder that has them"
            ) from error
    return np.asarray(np.memmap(file, number_dtype(num_items), mode="r", shape=(num_items,)))


def _write(file: Path, items: np.ndarray) -> None:
    partial = file.with_suffix(".partial")
    with partial.open("wb") as out:
        for begin in range(0, len(items), _CHUNK):
            out.write(items[begin : begin + _CHUNK].data)
            # Chunk by chunk, so that no second copy of the order waits in memory for the disk.
            out.flush()
            os.fsync(out.fileno())
    partial.replace(file)
