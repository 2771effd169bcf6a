"""Write and read the MDS shards of one split.

Reading needs no import of mosaicml-streaming (which takes seconds) and copies nothing: the format
is, little-endian, ``count u32, offsets u32[count + 1], config JSON, samples``; a sample of our one
column is ``size u32, shape header, values``, so a document's values end where its sample ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from flexbert.data.corpus_format import (
    COLUMN,
    LENGTHS_FILE,
    SHARD_HASH,
    CorpusError,
    SplitMeta,
)
from flexbert.errors import UserError

INDEX_FILE = "index.json"
# Room for a shard's own header; a shard is at least as large as the longest document.
SHARD_OVERHEAD = 4096
MAX_SHARD_BYTES = 2**32 - 1


def write_split(
    split: Path, documents: Iterable[np.ndarray], *, dtype: np.dtype, shard_bytes: int, longest: int
) -> SplitMeta:
    """Write documents as an MDS dataset with ``lengths.u32`` beside it, in place of what was there.

    Args:
        longest: number of tokens of the longest document. Streaming writes an empty shard before a
            document that is larger than a shard, so shards are never smaller than that.
    """
    from streaming import MDSWriter

    shutil.rmtree(split, ignore_errors=True)
    smallest = longest * dtype.itemsize + SHARD_OVERHEAD
    if smallest > MAX_SHARD_BYTES:
        raise UserError(
            f"a document of {longest:,} tokens does not fit into one shard (4 GiB at most); cut it"
        )
    meta = {"documents": 0, "tokens": 0}
    writer = MDSWriter(
        columns={COLUMN: f"ndarray:{dtype.name}"},
        out=str(split),
        hashes=[SHARD_HASH],
        size_limit=max(shard_bytes, smallest),
    )
    with writer, open(split / LENGTHS_FILE, "wb") as lengths:
        for document in documents:
            writer.write({COLUMN: document})
            lengths.write(np.uint32(len(document)).astype("<u4").tobytes())
            meta["documents"] += 1
            meta["tokens"] += len(document)
    return SplitMeta(**meta)


def read_lengths(split: Path) -> np.ndarray:
    """``lengths.u32`` of a split.

    Raises:
        CorpusError: if it is missing, or not whole numbers of four bytes.
    """
    file = split / LENGTHS_FILE
    if not file.is_file():
        raise CorpusError(f"{file}: missing; make the corpus again")
    if file.stat().st_size % 4:
        raise CorpusError(f"{file}: {file.stat().st_size:,} bytes, not a multiple of 4; corrupt")
    return np.fromfile(file, "<u4")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard as ``index.json`` describes it."""

    path: Path
    num_documents: int
    num_bytes: int
    digest: str

    def verify_hash(self) -> None:
        """Raises CorpusError if the shard's bytes are not those that were written."""
        if xxhash.xxh3_64_hexdigest(self._bytes().data) != self.digest:
            raise CorpusError(f"{self.path}: its {SHARD_HASH} differs from {INDEX_FILE}'s; corrupt")

    def documents(self, dtype: np.dtype) -> Iterator[np.ndarray]:
        """The token ids of each document, as views of the shard's memory map.

        Raises:
            CorpusError: if the shard is missing, truncated or garbled.
        """
        data = self._bytes()
        offsets = self._offsets(data)
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            yield self._document(data[begin:end], dtype)

    def document(self, index: int, dtype: np.dtype) -> np.ndarray:
        """The token ids of one document of the shard; raises as :meth:`documents` does."""
        data = self._bytes()
        begin, end = self._offsets(data)[index : index + 2]
        return self._document(data[begin:end], dtype)

    def _bytes(self) -> np.ndarray:
        if not self.path.is_file():
            raise CorpusError(f"{self.path}: missing; make the corpus again or restore the file")
        size = self.path.stat().st_size
        if size != self.num_bytes:
            raise CorpusError(
                f"{self.path}: {size:,} bytes where {INDEX_FILE} says {self.num_bytes:,}; corrupt"
            )
        return np.memmap(self.path, np.uint8, mode="r")

    def _offsets(self, data: np.ndarray) -> np.ndarray:
        count = int(data[:4].view("<u4")[0])
        if count != self.num_documents:
            raise CorpusError(
                f"{self.path}: {count:,} documents where {INDEX_FILE} says "
                f"{self.num_documents:,}; corrupt"
            )
        return data[4 : 4 + 4 * (count + 1)].view("<u4")

    def _document(self, sample: np.ndarray, dtype: np.dtype) -> np.ndarray:
        # Shape header: 4 * ndim + log2(bytes per dimension), then the dimensions; ndim is 1 here.
        ndim, size_code = divmod(int(sample[4]), 4) if len(sample) > 4 else (0, 0)
        values = sample[5 + (1 << size_code) :]
        if ndim != 1 or len(values) == 0 or len(values) % dtype.itemsize:
            raise CorpusError(f"{self.path}: not a shard of {dtype.name} token ids; corrupt")
        return values.view(dtype)


def read_index(split: Path) -> list[Shard]:
    """The shards of a split, in order.

    Raises:
        CorpusError: if there is no readable index.
    """
    file = split / INDEX_FILE
    try:
        return [
            Shard(
                path=split / shard["raw_data"]["basename"],
                num_documents=shard["samples"],
                num_bytes=shard["raw_data"]["bytes"],
                digest=shard["raw_data"]["hashes"][SHARD_HASH],
            )
            for shard in json.loads(file.read_text())["shards"]
        ]
    except FileNotFoundError as error:
        raise CorpusError(f"{file}: missing; make the corpus again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{file}: not a shard index ({error!r})") from error


def read_split(split: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The token ids of every document of a split, in order."""
    for shard in read_index(split):
        yield from shard.documents(dtype)
