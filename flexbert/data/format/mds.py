"""The MDS shards of a split: checked against their index, then memory-mapped.

An uncompressed MDS shard is ``[count u32][offsets (count + 1) u32][config JSON][samples]``. Ours
have one column, a flat array, so that a sample is
``[size u32][shape code u8][number of tokens u8, u16 or u32][tokens]``: a document's tokens are the
last bytes before the next document's offset, and a sample's size follows from their number alone.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash

from flexbert.data.format.corpus_format import (
    COLUMN,
    SHARD_HASH,
    CorpusError,
    is_plain_name,
    read_description,
)
from flexbert.files.regular import open_regular, parse_json

INDEX_FILE = "index.json"
_HASH_BLOCK = 1 << 24
_RESTORE = "copy the corpus again or make it again with python -m data_prep corpus"


@dataclass(frozen=True)
class ShardFile:
    """One entry of ``index.json``."""

    path: Path
    num_documents: int
    num_bytes: int
    xxh3_64: str | None

    def check(self, verify_hash: bool) -> None:
        """Compare the file with the index.

        Raises:
            CorpusError: if it is missing or has another size or, where asked for, another hash.
        """
        digest = self.xxh3_64
        try:
            with open_regular(self.path) as file:
                found = os.fstat(file.fileno()).st_size
                if found == self.num_bytes and verify_hash and digest is not None:
                    digest = hash_file(self.path)
        except OSError as error:
            raise CorpusError(f"{self.path}: {error.strerror}; {_RESTORE}") from error
        if found != self.num_bytes:
            raise CorpusError(
                f"{self.path}: {found} bytes, its index says {self.num_bytes}; {_RESTORE}"
            )
        if digest != self.xxh3_64:
            raise CorpusError(f"{self.path}: its {SHARD_HASH} hash is not its index's; {_RESTORE}")


class ShardStore(Protocol):
    """Where the shards of a split lie, and which of them are on this disk."""

    def path(self, shard: int) -> Path:
        """A local file that holds the shard, whole; it may have to be fetched first.

        Raises:
            CorpusError: if it cannot be had.
        """

    def expect(self, shards: Sequence[int]) -> None:
        """These shards are read next, in this order; the others may be let go."""


class LocalShards:
    """Shards in a local folder: always there."""

    def __init__(self, files: Sequence[ShardFile]) -> None:
        self._files = files

    def path(self, shard: int) -> Path:
        return self._files[shard].path

    def expect(self, shards: Sequence[int]) -> None:
        pass


def hash_file(path: Path) -> str:
    """The hash of a file's bytes, as indexes hold it."""
    digest = xxhash.xxh3_64()
    with open_regular(path) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_index(folder: Path, dtype: np.dtype) -> list[ShardFile]:
    """The shards that ``folder/index.json`` lists.

    Raises:
        CorpusError: if there is no such index, or it describes anything but uncompressed MDS shards
            with one column of arrays of ``dtype``.
    """
    file = folder / INDEX_FILE
    try:
        shards = parse_json(read_description(file))["shards"]
        for shard in shards:
            layout = (shard["format"], shard["compression"], shard["column_names"])
            encodings = shard["column_encodings"]
            if layout != ("mds", None, [COLUMN]) or encodings != [f"ndarray:{dtype.name}"]:
                raise CorpusError(
                    f"{file}: its shards are {layout} of {encodings}, not uncompressed MDS with a "
                    f"column {COLUMN!r} of ndarray:{dtype.name}; {_RESTORE}"
                )
        return [_shard_file(folder, shard) for shard in shards]
    except KeyError as error:
        raise CorpusError(f"{file}: not an MDS index (no {error}); {_RESTORE}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"{file}: not an MDS index ({error}); {_RESTORE}") from None


def _shard_file(folder: Path, entry: Mapping[str, Any]) -> ShardFile:
    """An entry of an index, believed in nothing that could lead out of the folder."""
    raw = entry["raw_data"]
    name, num_documents, num_bytes = raw["basename"], entry["samples"], raw["bytes"]
    if not is_plain_name(name):
        raise ValueError(f"a shard of the name {name!r}, which is no file of this folder")
    # Offsets are of 32 bits.
    for what, number in (("samples", num_documents), ("bytes", num_bytes)):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 32:
            raise ValueError(f"{name} has {what} that no shard has")
    digest = raw["hashes"].get(SHARD_HASH)
    if not isinstance(digest, str | None):
        raise ValueError(f"{name} has a hash that is no text")
    return ShardFile(folder / name, num_documents, num_bytes, digest)


class Shard:
    """A memory-mapped shard.

    Attributes:
        data: every byte of the file, uint8.
        ends: where each document's tokens end in ``data``, uint32.
    """

    def __init__(self, file: ShardFile, lengths: np.ndarray, dtype: np.dtype) -> None:
        """Map the file and check that its offsets agree with its documents' ``lengths``.

        Raises:
            CorpusError: if they do not, or the file cannot be mapped.
        """
        try:
            with open_regular(file.path) as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CorpusError(f"{file.path}: cannot be mapped ({error}); {_RESTORE}") from error
        if len(mapped) != file.num_bytes:
            raise CorpusError(
                f"{file.path}: {len(mapped)} bytes, its index says {file.num_bytes}; {_RESTORE}"
            )
        self.data = np.frombuffer(mapped, np.uint8)
        table = np.frombuffer(mapped, "<u4", count=min(len(mapped) // 4, file.num_documents + 2))
        sizes = sample_sizes(lengths, dtype)
        offsets = table[1:].astype(np.int64)
        if (
            len(offsets) != file.num_documents + 1
            or len(sizes) != file.num_documents
            or table[0] != file.num_documents
            or offsets[-1] != len(mapped)
            or not np.array_equal(np.diff(offsets), sizes)
        ):
            raise CorpusError(
                f"{file.path}: its offsets contradict the lengths of its documents; {_RESTORE}"
            )
        self.ends = table[2:]


def sample_sizes(lengths: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes of the samples of documents of these lengths in tokens, int64.

    The number of tokens takes the smallest of 1, 2 and 4 bytes that holds it.
    """
    shape_bytes = np.where(lengths < 1 << 8, 1, np.where(lengths < 1 << 16, 2, 4))
    return 5 + shape_bytes + lengths.astype(np.int64) * dtype.itemsize
