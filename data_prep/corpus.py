"""``python -m data_prep corpus``: text to a corpus folder, restartable at any moment.

While it is made, the folder holds ``manifest.json`` (inputs and settings), ``parts/`` (one folder
a finished part) and, later, the splits. A restart checks the manifest, makes the parts that are
missing and writes the splits anew. ``corpus.json`` comes last: with it, the corpus is complete.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.encoding import CorpusTokenizer
from data_prep.manifest import Manifest
from data_prep.parts import Part, tokenize_parts
from data_prep.report import format_report, make_report, write_report
from data_prep.shards import write_split
from data_prep.sources import Inputs, cut_pieces, group_parts
from flexbert.data.corpus_format import (
    META_FILE,
    TOKENIZER_FOLDER,
    CorpusMeta,
    SplitMeta,
)
from flexbert.errors import UserError

PARTS_FOLDER = "parts"
LOCK_FILE = ".lock"
# Of a tokenizer's folder; whatever else lies there (model weights) is not the tokenizer.
TOKENIZER_SUFFIXES = (".json", ".txt", ".model", ".jinja")


def make_corpus(
    inputs: Inputs,
    corpus: Path,
    *,
    tokenizer_folder: Path,
    text_field: str,
    validation: float,
    shard_bytes: int,
    part_bytes: int,
    workers: int,
    quiet: bool,
) -> None:
    """Make, or finish, a corpus and print what it holds.

    Args:
        validation: share of the documents that are held out, by a hash of their text.
        part_bytes: input bytes a part: what one worker does at a time and a kill may cost.

    Raises:
        UserError: if inputs, tokenizer or settings cannot be used or differ from those of the
            corpus that is already there.
    """
    tokenizer = CorpusTokenizer(tokenizer_folder)
    manifest = Manifest(
        tokenizer_sha256=tokenizer.sha256,
        text_field=text_field,
        validation=validation,
        shard_bytes=shard_bytes,
        part_bytes=part_bytes,
        files=[file.fingerprint() for file in inputs.files],
    )
    corpus.mkdir(parents=True, exist_ok=True)
    with _only_writer(corpus):
        manifest.claim(corpus)
        parts_folder = corpus / PARTS_FOLDER
        if (corpus / META_FILE).is_file():
            shutil.rmtree(parts_folder, ignore_errors=True)
            print(f"{corpus} is complete; nothing to do")
            return
        parts_folder.mkdir(exist_ok=True)
        pieces = (piece for file in inputs.files for piece in cut_pieces(file, part_bytes))
        parts = tokenize_parts(
            list(group_parts(pieces, part_bytes)),
            parts_folder,
            tokenizer=tokenizer_folder,
            text_field=text_field,
            workers=workers,
            quiet=quiet,
        )
        splits = _write_splits(corpus, parts, validation, tokenizer.dtype, shard_bytes, quiet)
        report = make_report(
            corpus,
            splits=splits,
            parts=parts,
            skipped=inputs.skipped,
            vocab_size=tokenizer.vocab_size,
            dtype=tokenizer.dtype,
        )
        write_report(corpus, report)
        copied = _copy_tokenizer(tokenizer_folder, corpus / TOKENIZER_FOLDER)
        CorpusMeta(
            tokenizer_sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            special_ids=tokenizer.special_ids,
            reserved_ids=tokenizer.reserved_ids,
            splits=splits,
            tokenizer_files=tuple(sorted(file.name for file in copied.iterdir())),
        ).write(corpus)
        shutil.rmtree(parts_folder)
    print(format_report(report))


@contextmanager
def _only_writer(corpus: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it whatever ends this process."""
    with open(corpus / LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{corpus} is being written by another process; wait for it") from error
        yield


def _write_splits(
    corpus: Path,
    parts: Sequence[Part],
    validation: float,
    dtype: np.dtype,
    shard_bytes: int,
    quiet: bool,
) -> dict[str, SplitMeta]:
    """Write both splits.

    A document is held out when the hash of its text is small. So equal documents land in one
    split, whatever their order. The smallest hash is always held out: a small corpus has a
    validation split too.
    """
    filled = [part for part in parts if len(part.hashes)]
    if not filled:
        rejects = sum(sum(part.rejects.values()) for part in parts)
        raise UserError(f"the inputs hold no usable document ({rejects:,} rows were rejected)")
    smallest = min(int(part.hashes.min()) for part in filled)
    threshold = np.uint64(max(int(validation * 2.0**64), smallest))
    return {
        "train": _write_split(
            corpus / "train", filled, lambda hashes: hashes > threshold, dtype, shard_bytes, quiet
        ),
        "validation": _write_split(
            corpus / "validation",
            filled,
            lambda hashes: hashes <= threshold,
            dtype,
            shard_bytes,
            quiet,
        ),
    }


def _write_split(
    split: Path,
    parts: Sequence[Part],
    belongs: Callable[[np.ndarray], np.ndarray],
    dtype: np.dtype,
    shard_bytes: int,
    quiet: bool,
) -> SplitMeta:
    """Write the documents whose text hash ``belongs`` to the split."""
    total = longest = 0
    for part in parts:
        lengths = part.lengths[belongs(part.hashes)]
        total += len(lengths)
        longest = max(longest, int(lengths.max(initial=0)))
    if total == 0:
        raise UserError(
            f"no document is left for {split.name}; give more documents or lower --validation"
        )
    documents = (
        document for part in parts for document in part.documents(dtype, belongs(part.hashes))
    )
    progress = tqdm(
        documents,
        desc=f"write {split.name}",
        total=total,
        unit=" documents",
        disable=True if quiet else None,
    )
    return write_split(split, progress, dtype=dtype, shard_bytes=shard_bytes, longest=longest)


def _copy_tokenizer(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in TOKENIZER_SUFFIXES:
            shutil.copyfile(file, target / file.name)
    return target
