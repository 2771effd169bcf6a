"""Find documents whose text occurred before, among any number of documents in bounded memory.

Two documents are equal if the 64-bit hashes of their texts and their numbers of tokens are. Among
n different texts, n^2 / 2^65 pairs share a 64-bit hash by chance: 0.027 pairs are expected among a
billion documents and 2.7 among ten billion. Those of one pair must also be equally long, which one
in hundreds is. A wider hash would cost eight more bytes a document and spare nobody a document.

The hashes are spread by their leading bits over buckets on disk (``RECORD``: 20 bytes a document,
while it lasts), each of about ``BUCKET_DOCUMENTS``, in input order; then bucket after bucket is
sorted. So memory is that of sorting two buckets, about 120 MB, however many documents there are and
however often one text occurs. The answer is a file of one byte a document, mapped into memory: its
pages are the system's to evict.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.parts import Part

RECORD = np.dtype([("hash", "<u8"), ("length", "<u4"), ("number", "<u8")])
BUCKET_DOCUMENTS = 1 << 19
FLAGS_FILE = "repeats.u8"


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """The documents that repeat an earlier one.

    Attributes:
        flags: for every document, in input order, whether its text occurred before; memory-mapped.
        documents: how many did.
        tokens: how many tokens they have.
    """

    flags: np.ndarray
    documents: int
    tokens: int


def find_repeats(parts: Sequence[Part], folder: Path) -> Repeats:
    """Find the documents whose text occurred before, in input order.

    Args:
        folder: a free folder for working files; the result's flags stay there.
    """
    total = sum(part.documents for part in parts)
    bits = max(total - 1, 0).bit_length() - (BUCKET_DOCUMENTS.bit_length() - 1)
    buckets = folder / "buckets"
    buckets.mkdir()
    _fill_buckets(_records(parts), buckets, max(bits, 0))
    flags = np.memmap(folder / FLAGS_FILE, np.bool_, mode="w+", shape=(max(total, 1),))
    documents = tokens = 0
    for bucket in sorted(buckets.iterdir()):
        for repeats in _repeats_of_bucket(bucket):
            flags[repeats["number"]] = True
            documents += len(repeats)
            tokens += int(repeats["length"].sum(dtype=np.int64))
        bucket.unlink()
    shutil.rmtree(buckets)
    return Repeats(flags=flags[:total], documents=documents, tokens=tokens)


def _records(parts: Iterable[Part]) -> Iterator[np.ndarray]:
    """(hash, length, document number) of all documents, in blocks."""
    number = 0
    for part in parts:
        for block in part.blocks():
            records = np.empty(len(block.lengths), RECORD)
            records["hash"] = block.hashes
            records["length"] = block.lengths
            records["number"] = np.arange(number, number + len(records))
            number += len(records)
            yield records


def _fill_buckets(blocks: Iterable[np.ndarray], buckets: Path, bits: int) -> None:
    """Append every record to the bucket that the leading ``bits`` of its hash name."""

    def spread(held: list[np.ndarray]) -> None:
        records = np.concatenate([np.empty(0, RECORD), *held])
        # A shift by all 64 bits is not defined, so in two steps.
        bucket = records["hash"] >> np.uint64(63 - bits) >> np.uint64(1)
        order = np.argsort(bucket, kind="stable")
        numbers, begins = np.unique(bucket[order], return_index=True)
        for number, chosen in zip(numbers, np.split(order, begins[1:]), strict=False):
            with open(buckets / f"{number:06d}", "ab") as file:
                records[chosen].tofile(file)

    # Held back until there are many, so that each bucket's file is opened for more than a few.
    held: list[np.ndarray] = []
    num_held = 0
    for block in blocks:
        held.append(block)
        num_held += len(block)
        if num_held >= BUCKET_DOCUMENTS:
            spread(held)
            held, num_held = [], 0
    spread(held)


def _repeats_of_bucket(bucket: Path) -> Iterator[np.ndarray]:
    """The records of a bucket whose hash and length an earlier record has."""
    seen = np.empty(0, RECORD)
    with open(bucket, "rb") as file:
        while len(block := np.fromfile(file, RECORD, BUCKET_DOCUMENTS)):
            records = np.concatenate([seen, block])
            # Stable: among equal ones, those seen come first and the others in input order.
            order = np.lexsort((records["length"], records["hash"]))
            hashes, lengths = records["hash"][order], records["length"][order]
            equal = (hashes[1:] == hashes[:-1]) & (lengths[1:] == lengths[:-1])
            yield records[order[1:][equal]]
            seen = records[order[np.concatenate([[True], ~equal])]]
