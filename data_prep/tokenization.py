"""Tokenize parts of the input, each into a folder of its own, on all cores.

A killed run repeats at most the parts that it was at. Memory does not grow with the input: each
worker holds one batch of text, and what it made of it goes to disk at once.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace
from io import BufferedWriter
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from data_prep.encoding import CorpusTokenizer, Encoded, Rejected
from data_prep.parts import HASHES_FILE, TOKENS_FILE, InputRows, Part
from data_prep.phase_progress import PhaseProgress
from data_prep.readers import read_piece
from data_prep.rows import Fields
from data_prep.sources import Piece
from flexbert.data.format.corpus_format import LABELS_FILE, LENGTHS_FILE, MAX_LABELS
from flexbert.errors import UserError
from flexbert.files.durable import new_folder
from flexbert.files.file_lock import file_lock

WORKERS_LOCK = ".workers"


def part_folder(folder: Path, number: int) -> Path:
    """Where part ``number`` of the input lies, or will lie, in a folder of parts."""
    return folder / f"part-{number:06d}"


def tokenize_parts(
    parts: Mapping[int, Sequence[Piece]],
    folder: Path,
    *,
    tokenizer: CorpusTokenizer,
    fields: Fields,
    labelled: bool,
    workers: int,
    quiet: bool,
) -> list[Part]:
    """Tokenize all parts that are not finished yet; return all, in order.

    Args:
        parts: what to read for each part, by its number.
        fields: what to take of a row where its input does not say it itself.
        labelled: whether documents have labels; one that has none gets the empty one.

    Raises:
        UserError: if an input cannot be read, there are too many labels, or a worker was killed.
    """
    with file_lock(folder / WORKERS_LOCK):  # once the last worker of a killed run is gone
        for leftover in folder.glob(".part-*"):
            shutil.rmtree(leftover)
    finished = _finished_parts(parts, folder, tokenizer.dtype)
    labels = {label for part in finished.values() for label in part.labels or ()}
    sizes = {number: sum(piece.size for piece in pieces) for number, pieces in parts.items()}
    todo = [number for number in parts if number not in finished]
    if todo:
        processes = min(workers, len(todo))
        pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(folder / WORKERS_LOCK, tokenizer.folder, workers // processes),
        )
        progress = PhaseProgress(
            "tokenize",
            total=sum(sizes.values()),
            done=sum(sizes[number] for number in finished),
            unit="B",
            there=f"{len(finished):,} of {len(parts):,} parts" if finished else "",
            quiet=quiet,
        )
        with pool, progress:
            futures = {
                pool.submit(
                    tokenize_part, parts[number], part_folder(folder, number), fields, labelled
                ): number
                for number in todo
            }
            try:
                for future in as_completed(futures):
                    number = futures.pop(future)
                    finished[number] = part = future.result()
                    labels.update(part.labels or ())
                    _check_labels(labels, fields.label)
                    progress.update(sizes[number])
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process was killed (out of memory?); "
                    "the same command with fewer --workers continues"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
    return [finished[number] for number in parts]


def _finished_parts(
    numbers: Mapping[int, object], folder: Path, dtype: np.dtype
) -> dict[int, Part]:
    """The parts that are there whole; others, as a machine's crash may leave, are removed."""
    finished = {}
    for number in numbers:
        path = part_folder(folder, number)
        if not path.is_dir():
            continue
        try:
            part = Part.read(path)
        except (OSError, ValueError, KeyError, TypeError):
            part = None
        if part is not None and part.is_whole(dtype):
            finished[number] = part
        else:
            shutil.rmtree(path)
    return finished


_tokenizer: CorpusTokenizer  # of this worker process


def _start_worker(lock: Path, tokenizer: Path, threads: int) -> None:
    """Set this worker up, and end it when its parent is killed: it would wait for ever.

    Until it ends it shares ``lock``, so that the next run knows when nobody writes any more.
    """
    global _tokenizer
    # Ctrl-C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fcntl.flock(os.open(lock, os.O_RDONLY), fcntl.LOCK_SH)  # never closed
    parent = multiprocessing.parent_process()
    assert parent is not None
    if not parent.is_alive():
        os._exit(1)  # the lock came too late: the next run may have begun
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    _tokenizer = CorpusTokenizer(tokenizer)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def tokenize_part(pieces: Sequence[Piece], finished: Path, fields: Fields, labelled: bool) -> Part:
    """Read and tokenize one part into the folder ``finished``.

    Raises:
        UserError: if an input cannot be read, or there are too many labels.
    """
    with new_folder(finished) as folder:
        part = _write_part(pieces, folder, fields, labelled)
    return replace(part, folder=finished)


def _write_part(pieces: Sequence[Piece], folder: Path, fields: Fields, labelled: bool) -> Part:
    sampled = dropped = 0
    smallest: int | None = None
    labels: dict[str, int] = {}  # numbered as they come
    names = list(dict.fromkeys(piece.file.input for piece in pieces))
    counts = _PartCounts(names)
    with ExitStack() as stack:

        def create(name: str) -> BufferedWriter:
            return stack.enter_context(open(folder / name, "wb"))

        tokens_file, lengths_file = create(TOKENS_FILE), create(LENGTHS_FILE)
        hashes_file = create(HASHES_FILE)
        labels_file = create(LABELS_FILE) if labelled else None
        rows = (
            (names.index(piece.file.input), row)
            for piece in pieces
            for row in read_piece(piece, fields)
        )
        for encoded in _tokenizer.encode(rows):
            if isinstance(encoded, Rejected):
                counts.reject(encoded)
                continue
            encoded.tokens.tofile(tokens_file)
            encoded.lengths.tofile(lengths_file)
            encoded.hashes.tofile(hashes_file)
            if labels_file is not None:
                numbers = [labels.setdefault(name or "", len(labels)) for name in encoded.labels]
                _check_labels(labels, fields.label)
                labels_file.write(bytes(numbers))
            counts.add(encoded)
            sampled += encoded.sampled
            dropped += encoded.dropped
            lowest = int(encoded.hashes.min())
            smallest = lowest if smallest is None else min(smallest, lowest)
    inputs = counts.by_input()
    total = sum(inputs.values(), InputRows())
    part = Part(
        folder=folder,
        **vars(total),
        sampled=sampled,
        dropped=dropped,
        smallest_hash=smallest,
        labels=tuple(labels) if labelled else None,
        inputs=inputs,
        runs=tuple(counts.runs),
    )
    part.write_counts()
    return part


class _PartCounts:
    """What a part holds of each input, by the input's number.

    Attributes:
        runs: (input, number of consecutive documents of it), as of a ``Part``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        # Documents, tokens, characters, unknown tokens.
        self.sums = np.zeros((4, len(names)), np.int64)
        self.rejects: dict[int, Counter[str]] = defaultdict(Counter)
        self.runs: list[tuple[int, int]] = []

    def add(self, encoded: Encoded) -> None:
        some = (encoded.inputs, encoded.lengths, encoded.characters, encoded.unknown)
        for sums, values in zip(self.sums, (np.ones_like(some[0]), *some[1:]), strict=True):
            np.add.at(sums, encoded.inputs, values.astype(np.int64))
        begins = np.flatnonzero(np.diff(encoded.inputs, prepend=-1))
        for begin, end in pairwise([*begins.tolist(), len(encoded.inputs)]):
            number, before = int(encoded.inputs[begin]), 0
            if self.runs and self.runs[-1][0] == number:
                before = self.runs.pop()[1]
            self.runs.append((number, before + end - begin))

    def reject(self, rejected: Rejected) -> None:
        self.rejects[rejected.input][rejected.reason.value] += 1

    def by_input(self) -> dict[str, InputRows]:
        """What was read of each input that had a row."""
        return {
            name: InputRows(
                documents=documents,
                tokens=tokens,
                characters=characters,
                unknown=unknown,
                rejects=dict(sorted(self.rejects[number].items())),
            )
            for number, (name, (documents, tokens, characters, unknown)) in enumerate(
                zip(self.names, self.sums.T.tolist(), strict=True)
            )
        }


def _check_labels(labels: Mapping[str, int] | set[str], field: str | None) -> None:
    if len(labels) > MAX_LABELS:
        what = f"--label-field {field}" if field else "labels"
        raise UserError(
            f"{what}: more than {MAX_LABELS} different labels; name a field with few values, such "
            "as a quality or a source"
        )
