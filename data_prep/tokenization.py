"""Tokenize parts of the input, each into a folder of its own, on all cores.

A killed run repeats at most the parts that it was at. Memory does not grow with the input: each
worker holds one batch of text, and what it made of it goes to disk at once.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace
from io import BufferedWriter
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.encoding import CorpusTokenizer
from data_prep.parts import HASHES_FILE, TOKENS_FILE, Part
from data_prep.readers import read_piece
from data_prep.rows import Fields, Reject
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
    workers: int,
    quiet: bool,
) -> list[Part]:
    """Tokenize all parts that are not finished yet; return all, in order.

    Args:
        parts: what to read for each part, by its number.

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
        progress = tqdm(
            desc="tokenize",
            total=sum(sizes.values()),
            initial=sum(sizes[number] for number in finished),
            unit="B",
            unit_scale=True,
            disable=True if quiet else None,
        )
        with pool, progress:
            futures = {
                pool.submit(
                    tokenize_part, parts[number], part_folder(folder, number), fields
                ): number
                for number in todo
            }
            try:
                for future in as_completed(futures):
                    number = futures.pop(future)
                    finished[number] = part = future.result()
                    labels.update(part.labels or ())
                    _check_labels(labels, fields)
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


def tokenize_part(pieces: Sequence[Piece], finished: Path, fields: Fields) -> Part:
    """Read and tokenize one part into the folder ``finished``.

    Raises:
        UserError: if an input cannot be read, or there are too many labels.
    """
    with new_folder(finished) as folder:
        part = _write_part(pieces, folder, fields)
    return replace(part, folder=finished)


def _write_part(pieces: Sequence[Piece], folder: Path, fields: Fields) -> Part:
    documents = tokens = characters = unknown = sampled = dropped = 0
    smallest: int | None = None
    rejects: Counter[str] = Counter()
    labels: dict[str, int] = {}  # numbered as they come
    with ExitStack() as stack:

        def create(name: str) -> BufferedWriter:
            return stack.enter_context(open(folder / name, "wb"))

        tokens_file, lengths_file = create(TOKENS_FILE), create(LENGTHS_FILE)
        hashes_file = create(HASHES_FILE)
        labels_file = create(LABELS_FILE) if fields.label is not None else None
        rows = (row for piece in pieces for row in read_piece(piece, fields))
        for encoded in _tokenizer.encode(rows):
            if isinstance(encoded, Reject):
                rejects[encoded.value] += 1
                continue
            encoded.tokens.tofile(tokens_file)
            encoded.lengths.tofile(lengths_file)
            encoded.hashes.tofile(hashes_file)
            if labels_file is not None:
                numbers = [labels.setdefault(name or "", len(labels)) for name in encoded.labels]
                _check_labels(labels, fields)
                labels_file.write(bytes(numbers))
            documents += len(encoded.lengths)
            tokens += len(encoded.tokens)
            characters += encoded.characters
            unknown += encoded.unknown
            sampled += encoded.sampled
            dropped += encoded.dropped
            lowest = int(encoded.hashes.min())
            smallest = lowest if smallest is None else min(smallest, lowest)
    part = Part(
        folder=folder,
        documents=documents,
        tokens=tokens,
        characters=characters,
        unknown=unknown,
        sampled=sampled,
        dropped=dropped,
        smallest_hash=smallest,
        rejects=dict(sorted(rejects.items())),
        labels=tuple(labels) if fields.label is not None else None,
    )
    part.write_counts()
    return part


def _check_labels(labels: Mapping[str, int] | set[str], fields: Fields) -> None:
    if len(labels) > MAX_LABELS:
        raise UserError(
            f"--label-field {fields.label}: more than {MAX_LABELS} different labels; "
            "name a field with few values, such as a quality or a source"
        )
