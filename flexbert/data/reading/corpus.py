"""Reading a corpus: its description, and the documents of its splits from memory-mapped shards."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from flexbert.config.remote_address import RemoteAddress
from flexbert.data.format.corpus_format import (
    LABELS_FILE,
    LENGTHS_FILE,
    META_FILE,
    TOKENIZER_FOLDER,
    CorpusError,
    CorpusMeta,
    read_description,
    tokenizer_sha256,
)
from flexbert.data.format.mds import (
    INDEX_FILE,
    LocalShards,
    Shard,
    ShardFile,
    ShardStore,
    read_index,
)
from flexbert.data.remote.remote_folder import RemoteFolder
from flexbert.data.remote.shard_cache import RemoteShards
from flexbert.errors import did_you_mean
from flexbert.files.node_arrays import IN_MEMORY

VERIFY_BELOW = 1 << 30
_OTHER_FILES = 512  # that a process opens besides shards
# Linux maps at most 65,530 ranges of memory for a process unless told otherwise.
_MAX_OPEN_SHARDS = 50_000


class Corpus:
    """A corpus folder, its description read and its tokenizer found to be the one it names."""

    def __init__(self, folder: Path, remote: RemoteFolder | None, cache_limit: int | None) -> None:
        self.folder = folder
        self.meta = CorpusMeta.read(folder)
        self._remote = remote
        self._cache_limit = cache_limit

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        remote: RemoteAddress | str | None = None,
        cache_limit: int | None = None,
    ) -> Corpus:
        """Open a corpus.

        Args:
            remote: where the corpus lies if it is to be copied to ``folder`` as it is read.
            cache_limit: bytes of shards that ``folder`` keeps of each split at most.

        Raises:
            CorpusError: if the folder is not a finished corpus with the tokenizer that it was
                made with, or the remote one cannot be read.
        """
        folder = Path(folder)
        elsewhere = RemoteFolder(remote, folder) if remote is not None else None
        if elsewhere is not None:
            elsewhere.fetch_current(META_FILE)
        corpus = cls(folder, elsewhere, cache_limit)
        if elsewhere is not None:
            if not corpus.meta.tokenizer_files:
                raise CorpusError(
                    f"{elsewhere}: does not name its tokenizer's files, as corpora made by this "
                    "FlexBERT do; make it again with python -m data_prep corpus"
                )
            for name in corpus.meta.tokenizer_files:
                elsewhere.fetch(f"{TOKENIZER_FOLDER}/{name}")
        corpus.require_tokenizer(folder / TOKENIZER_FOLDER)
        return corpus

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path, RemoteFolder | None, int | None]]:
        return Corpus, (self.folder, self._remote, self._cache_limit)

    def require_tokenizer(self, folder: Path) -> None:
        """Raise a CorpusError unless the corpus was made with the tokenizer in ``folder``."""
        if tokenizer_sha256(folder) != self.meta.tokenizer_sha256:
            raise CorpusError(
                f"{self.folder}: made with another tokenizer than {folder}; make the corpus again "
                f"with: python -m data_prep corpus --tokenizer {folder}"
            )

    def split(self, name: str, *, verify_hashes: bool | None = None) -> Split:
        """One split, every shard file checked.

        Args:
            verify_hashes: compare every shard with its hash; ``None`` does so for splits of at
                most ``VERIFY_BELOW`` bytes. Shards that are fetched are always compared.

        Raises:
            CorpusError: if there is no such split, or its files contradict each other.
        """
        if name not in self.meta.splits:
            raise CorpusError(
                f"{self.folder}: no split {name!r}; {did_you_mean(name, self.meta.splits)}"
            )
        if self._remote is not None:
            self._remote.fetch_current(f"{name}/{INDEX_FILE}")
            num_documents = self.meta.splits[name].documents
            self._remote.fetch(f"{name}/{LENGTHS_FILE}", num_bytes=4 * num_documents)
            if self.meta.labels:
                self._remote.fetch(f"{name}/{LABELS_FILE}", num_bytes=num_documents)
        return Split(self, name, verify_hashes)

    def shard_store(self, files: Sequence[ShardFile]) -> ShardStore:
        """Where the shards of a split are read from."""
        if self._remote is None:
            return LocalShards(files)
        return RemoteShards(self._remote, files, self._cache_limit)


class Split:
    """The documents of one split; shards are mapped when they are first read.

    It pickles as its address, so that worker processes map the files themselves.

    Attributes:
        lengths: the number of tokens of every document, uint32, memory-mapped.
        first_documents: the number of each shard's first document, and the number of documents.
    """

    def __init__(self, corpus: Corpus, name: str, verify_hashes: bool | None) -> None:
        self.name = name
        self.meta = corpus.meta
        self._corpus = corpus
        self._files = read_index(self.folder, self.meta.dtype)
        self._store = corpus.shard_store(self._files)
        if not self.fetches:
            if verify_hashes is None:
                verify_hashes = self.num_bytes <= VERIFY_BELOW
            for file in self._files:
                file.check(verify_hashes)
        self.first_documents = np.cumsum([0] + [file.num_documents for file in self._files])
        if self.first_documents[-1] != self.num_documents:
            raise CorpusError(
                f"{self.folder}: {self.first_documents[-1]} documents in its shards, corpus.json "
                f"counts {self.num_documents}"
            )
        self.lengths = self._map(LENGTHS_FILE, np.dtype("<u4"))
        if self.num_documents <= IN_MEMORY:
            self.check_lengths()  # larger ones are read through when their chunks are numbered
        self._max_open = _allowed_open_files(len(self._files))
        self._open_shards: dict[int, Shard] = {}

    def __reduce__(self) -> tuple[type[Split], tuple[Corpus, str, bool]]:
        return Split, (self._corpus, self.name, False)

    @property
    def folder(self) -> Path:
        return self._corpus.folder / self.name

    @property
    def num_documents(self) -> int:
        return self.meta.splits[self.name].documents

    @property
    def num_tokens(self) -> int:
        return self.meta.splits[self.name].tokens

    def require_documents(self) -> None:
        """Raise a CorpusError if the split is empty."""
        if self.num_documents == 0:
            raise CorpusError(f"{self.folder}: this split has no documents")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the split's index, which holds every shard's hash; moving it changes none."""
        return hashlib.sha256(read_description(self.folder / INDEX_FILE)).hexdigest()

    def expect(self, shards: Sequence[int]) -> None:
        """Shards are read next in this order; see :meth:`ShardStore.expect`."""
        expected = set(shards)
        for shard in [shard for shard in self._open_shards if shard not in expected]:
            del self._open_shards[shard]  # a mapped file keeps its place on disk
        self._store.expect(shards)

    def close(self) -> None:
        """Let go of the shards that are mapped; they are mapped again when they are read."""
        self._open_shards.clear()

    @property
    def num_bytes(self) -> int:
        """Of all its shards."""
        return self.bytes_of_largest(None)

    def bytes_of_largest(self, num_shards: int | None) -> int:
        """Of its ``num_shards`` largest shards; of all for ``None``."""
        return sum(sorted((file.num_bytes for file in self._files), reverse=True)[:num_shards])

    @property
    def fetches(self) -> bool:
        """Whether shards have to be fetched, and so are to be announced by :meth:`expect`."""
        return not isinstance(self._store, LocalShards)

    def shards_of(self, documents: np.ndarray) -> np.ndarray:
        """The shard that each document lies in."""
        return np.searchsorted(self.first_documents, documents, side="right") - 1

    def gather(self, documents: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Tokens of several documents behind each other, in the corpus's dtype.

        Args:
            documents: document numbers.
            starts: the first token to take of each.
            counts: how many to take of each.

        Raises:
            CorpusError: if a shard cannot be read, or contradicts the split's lengths.
        """
        tokens = np.empty(int(counts.sum()), self.meta.dtype)
        self.gather_into(tokens, np.cumsum(counts) - counts, documents, starts, counts)
        return tokens

    def gather_into(
        self,
        tokens: np.ndarray,
        places: np.ndarray,
        documents: np.ndarray,
        starts: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        """As :meth:`gather`, each document's tokens to its place in ``tokens``."""
        itemsize = self.meta.dtype.itemsize
        out = tokens.view(np.uint8)
        shards = self.shards_of(documents)
        locals_ = documents - self.first_documents[shards]
        # Both counted in bytes back from the end of the document's tokens, which is what MDS gives.
        begins = (self.lengths[documents].astype(np.int64) - starts) * itemsize
        sizes = counts * itemsize
        targets = places * itemsize
        # Lists, because taking single numbers out of an array costs more than the copy.
        for shard, local, begin, size, target in zip(
            *(array.tolist() for array in (shards, locals_, begins, sizes, targets)), strict=True
        ):
            opened = self._open_shards.get(shard) or self._open(shard)
            source = int(opened.ends[local]) - begin
            out[target : target + size] = opened.data[source : source + size]

    def _open(self, shard: int) -> Shard:
        if len(self._open_shards) >= self._max_open:
            del self._open_shards[next(iter(self._open_shards))]  # the one opened first
        first, end = self.first_documents[shard : shard + 2]
        try:
            opened = self._map_shard(shard, self.lengths[first:end])
        except CorpusError:
            if not self.fetches:
                raise
            # Another process may have needed its room between fetching and mapping.
            opened = self._map_shard(shard, self.lengths[first:end])
        self._open_shards[shard] = opened
        return opened

    def _map_shard(self, shard: int, lengths: np.ndarray) -> Shard:
        file = replace(self._files[shard], path=self._store.path(shard))
        return Shard(file, lengths, self.meta.dtype)

    def check_lengths(self) -> None:
        """Raise a CorpusError unless the lengths agree with the counts of ``corpus.json``."""
        found = int(self.lengths.sum(dtype=np.int64))
        if found != self.num_tokens:
            raise CorpusError(
                f"{self.folder}: its documents have {found} tokens, corpus.json counts "
                f"{self.num_tokens}"
            )
        if self.num_documents and not self.lengths.min():
            raise CorpusError(f"{self.folder}: document {self.lengths.argmin()} is empty")

    @cached_property
    def labels(self) -> np.ndarray:
        """The number of every document's label, uint8, memory-mapped; empty without labels.

        Raises:
            CorpusError: if the file is not there although the corpus has labels.
        """
        if not self.meta.labels:
            return np.empty(0, np.uint8)
        return self._map(LABELS_FILE, np.dtype(np.uint8))

    @cached_property
    def labels_hash(self) -> str:
        """Of every document's label; labels are no part of the fingerprint."""
        return xxhash.xxh3_64_hexdigest(self.labels.data)

    def _map(self, name: str, dtype: np.dtype) -> np.ndarray:
        file = self.folder / name
        # A regular file of this very size: a device has none, and a pipe would be waited for.
        if not file.is_file() or file.stat().st_size != dtype.itemsize * self.num_documents:
            raise CorpusError(
                f"{file}: not the {file.stem} of {self.num_documents} documents that corpus.json "
                "counts"
            )
        if self.num_documents == 0:
            return np.empty(0, dtype)  # an empty file cannot be mapped
        return np.asarray(np.memmap(file, dtype, mode="r"))


def _allowed_open_files(num_shards: int) -> int:
    """Raise this process's soft limit of open files, as a mapped shard keeps its file open.

    Returns:
        How many shards may be open at once.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_OPEN_SHARDS
    num_open = min(num_shards, _MAX_OPEN_SHARDS)
    if hard != resource.RLIM_INFINITY and soft + num_open > hard:
        num_open = max(1, hard - _OTHER_FILES)
    limit = soft + num_open if hard == resource.RLIM_INFINITY else min(soft + num_open, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return num_open
