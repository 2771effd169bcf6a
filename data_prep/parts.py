"""Tokenize parts of the input, each into a folder of its own, on all cores.

A part's folder is written under a temporary name and renamed when complete. So a part is there
whole or not at all, a killed run repeats at most the parts it was at, and which process made a
part, and when, leaves no trace in it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.encoding import CorpusTokenizer
from data_prep.readers import Reject, read_piece
from data_prep.sources import Piece
from flexbert.errors import UserError

TOKENS_FILE = "tokens.bin"
LENGTHS_FILE = "lengths.u32"
HASHES_FILE = "hashes.u64"
COUNTS_FILE = "counts.json"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished part on disk.

    Attributes:
        rejects: number of bad rows by the value of their ``Reject``.
    """

    folder: Path
    characters: int
    rejects: dict[str, int]

    @classmethod
    def read(cls, folder: Path) -> Part:
        return cls(folder=folder, **json.loads((folder / COUNTS_FILE).read_text()))

    @property
    def lengths(self) -> np.ndarray:
        return np.fromfile(self.folder / LENGTHS_FILE, "<u4")

    @property
    def hashes(self) -> np.ndarray:
        return np.fromfile(self.folder / HASHES_FILE, "<u8")

    def documents(self, dtype: np.dtype, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """The token ids of each document that the mask ``chosen`` marks, in order."""
        lengths = self.lengths.astype(np.int64)
        ends = np.cumsum(lengths)
        if chosen.any():
            tokens = np.memmap(self.folder / TOKENS_FILE, dtype, mode="r")
            for begin, end in zip((ends - lengths)[chosen], ends[chosen], strict=True):
                yield tokens[begin:end]


def tokenize_parts(
    parts: Sequence[Sequence[Piece]],
    folder: Path,
    *,
    tokenizer: Path,
    text_field: str,
    workers: int,
    quiet: bool,
) -> list[Part]:
    """Tokenize all parts that are not finished yet; return all, in order.

    Raises:
        UserError: if an input cannot be read, or a worker was killed.
    """
    for leftover in folder.glob(".part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folders = [folder / f"part-{number:06d}" for number in range(len(parts))]
    sizes = [sum(piece.size for piece in part) for part in parts]
    todo = [number for number, finished in enumerate(folders) if not finished.exists()]
    if todo:
        processes = min(workers, len(todo))
        pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(tokenizer, workers // processes),
        )
        progress = tqdm(
            desc="tokenize",
            total=sum(sizes),
            initial=sum(sizes) - sum(sizes[number] for number in todo),
            unit="B",
            unit_scale=True,
            disable=True if quiet else None,
        )
        with pool, progress:
            futures = {
                pool.submit(_tokenize_part, parts[number], folders[number], text_field): number
                for number in todo
            }
            try:
                for future in as_completed(futures):
                    future.result()
                    progress.update(sizes[futures[future]])
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process was killed (out of memory?); "
                    "the same command with fewer --workers continues"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
    return [Part.read(finished) for finished in folders]


_tokenizer: CorpusTokenizer  # of this worker process


def _start_worker(tokenizer: Path, threads: int) -> None:
    global _tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    _tokenizer = CorpusTokenizer(tokenizer)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent was killed; a pool's worker would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _tokenize_part(part: Sequence[Piece], finished: Path, text_field: str) -> None:
    temporary = finished.with_name(f".{finished.name}.{os.getpid()}")
    temporary.mkdir()
    characters = 0
    rejects: Counter[str] = Counter()
    with (
        open(temporary / TOKENS_FILE, "wb") as tokens,
        open(temporary / LENGTHS_FILE, "wb") as lengths,
        open(temporary / HASHES_FILE, "wb") as hashes,
    ):
        rows = (row for piece in part for row in read_piece(piece, text_field))
        for encoded in _tokenizer.encode(rows):
            if isinstance(encoded, Reject):
                rejects[encoded.value] += 1
                continue
            encoded.tokens.tofile(tokens)
            encoded.lengths.tofile(lengths)
            encoded.hashes.tofile(hashes)
            characters += encoded.characters
    counts = {"characters": characters, "rejects": dict(sorted(rejects.items()))}
    (temporary / COUNTS_FILE).write_text(json.dumps(counts))
    temporary.rename(finished)
