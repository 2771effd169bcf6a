"""Reading a corpus: its description, and the documents of its splits from memory-mapped shards."""

from __future__ import annotations

import hashlib
import resource
from functools import cached_property
from pathlib import Path

import numpy as np

from flexbert.data.corpus_format import (
    LENGTHS_FILE,
    TOKENIZER_FOLDER,
    CorpusError,
    CorpusMeta,
    tokenizer_sha256,
)
from flexbert.data.mds import Shard, read_index
from flexbert.errors import did_you_mean

VERIFY_BELOW = 1 << 30
_OTHER_FILES = 512  # that a process opens besides shards


class Corpus:
    """A corpus folder, its description read and its tokenizer found to be the one it names."""

    def __init__(self, folder: Path, meta: CorpusMeta, verify_hashes: bool | None) -> None:
        self.folder = folder
        self.meta = meta
        self._verify_hashes = verify_hashes

    @classmethod
    def open(cls, folder: Path, *, verify_hashes: bool | None = None) -> Corpus:
        """Open a corpus.

        Args:
            verify_hashes: compare every shard of a split with its hash; ``None`` does so for
                splits of at most ``VERIFY_BELOW`` bytes.

        Raises:
            CorpusError: if the folder is not a finished corpus with the tokenizer that it was
                made with.
        """
        folder = Path(folder)
        corpus = cls(folder, CorpusMeta.read(folder), verify_hashes)
        corpus.require_tokenizer(folder / TOKENIZER_FOLDER)
        return corpus

    def require_tokenizer(self, folder: Path) -> None:
        """Raise a CorpusError unless the corpus was made with the tokenizer in ``folder``."""
        if tokenizer_sha256(folder) != self.meta.tokenizer_sha256:
            raise CorpusError(
                f"{self.folder}: made with another tokenizer than {folder}; make the corpus again "
                f"with: python -m data_prep corpus --tokenizer {folder}"
            )

    def split(self, name: str) -> Split:
        """One split, every shard file checked.

        Raises:
            CorpusError: if there is no such split, or its files contradict each other.
        """
        if name not in self.meta.splits:
            raise CorpusError(
                f"{self.folder}: no split {name!r}; {did_you_mean(name, self.meta.splits)}"
            )
        return Split(self.folder, name, self.meta, self._verify_hashes)


class Split:
    """The documents of one split; shards are mapped when they are first read.

    It pickles as its address, so that worker processes map the files themselves.

    Attributes:
        lengths: the number of tokens of every document, uint32, memory-mapped.
    """

    def __init__(
        self, corpus: Path, name: str, meta: CorpusMeta, verify_hashes: bool | None
    ) -> None:
        self.name = name
        self.meta = meta
        self._corpus = corpus
        self._files = read_index(self.folder, meta.dtype)
        if verify_hashes is None:
            verify_hashes = sum(file.num_bytes for file in self._files) <= VERIFY_BELOW
        for file in self._files:
            file.check(verify_hashes)
        self._first_documents = np.cumsum([0] + [file.num_documents for file in self._files])
        self._shards: list[Shard | None] = [None] * len(self._files)
        self.lengths = self._map_lengths()
        self._check_counts()
        _allow_open_files(self.folder, len(self._files))

    def __reduce__(self) -> tuple[type[Split], tuple[Path, str, CorpusMeta, bool]]:
        return Split, (self._corpus, self.name, self.meta, False)

    @property
    def folder(self) -> Path:
        return self._corpus / self.name

    @property
    def num_documents(self) -> int:
        return self.meta.splits[self.name].documents

    @property
    def num_tokens(self) -> int:
        return self.meta.splits[self.name].tokens

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the split's index, which holds every shard's hash; moving it changes none."""
        return hashlib.sha256((self.folder / "index.json").read_bytes()).hexdigest()

    def gather(self, documents: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Tokens of several documents behind each other, in the corpus's dtype.

        Args:
            documents: document numbers.
            starts: the first token to take of each.
            counts: how many to take of each.
        """
        itemsize = self.meta.dtype.itemsize
        tokens = np.empty(int(counts.sum()), self.meta.dtype)
        out = tokens.view(np.uint8)
        shards = np.searchsorted(self._first_documents, documents, side="right") - 1
        locals_ = documents - self._first_documents[shards]
        # Both counted in bytes back from the end of the document's tokens, which is what MDS gives.
        begins = (self.lengths[documents].astype(np.int64) - starts) * itemsize
        sizes = counts * itemsize
        written = 0
        # Lists, because taking single numbers out of an array costs more than the copy.
        for shard, local, begin, size in zip(
            shards.tolist(), locals_.tolist(), begins.tolist(), sizes.tolist(), strict=True
        ):
            opened = self._shards[shard] or self._open(shard)
            source = int(opened.ends[local]) - begin
            out[written : written + size] = opened.data[source : source + size]
            written += size
        return tokens

    def _open(self, shard: int) -> Shard:
        first, end = self._first_documents[shard : shard + 2]
        opened = Shard(self._files[shard], self.lengths[first:end], self.meta.dtype)
        self._shards[shard] = opened
        return opened

    def _map_lengths(self) -> np.ndarray:
        file = self.folder / LENGTHS_FILE
        if not file.is_file() or file.stat().st_size != 4 * self.num_documents:
            raise CorpusError(
                f"{file}: not the lengths of {self.num_documents} documents that corpus.json counts"
            )
        if self.num_documents == 0:
            return np.empty(0, np.uint32)  # an empty file cannot be mapped
        return np.asarray(np.memmap(file, "<u4", mode="r"))

    def _check_counts(self) -> None:
        found = (int(self._first_documents[-1]), int(self.lengths.sum(dtype=np.int64)))
        if found != (self.num_documents, self.num_tokens):
            raise CorpusError(
                f"{self.folder}: {found[0]} documents with {found[1]} tokens, corpus.json counts "
                f"{self.num_documents} with {self.num_tokens}"
            )
        if self.num_documents and not self.lengths.min():
            raise CorpusError(f"{self.folder}: document {self.lengths.argmin()} is empty")


def _allow_open_files(folder: Path, num_shards: int) -> None:
    """Raise this process's soft limit of open files: a mapped shard keeps its file open.

    Raises:
        CorpusError: if the system's hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    limit = soft + num_shards
    if hard != resource.RLIM_INFINITY:
        if num_shards > hard - _OTHER_FILES:
            raise CorpusError(
                f"{folder}: reading it keeps {num_shards} files open and this system allows "
                f"{hard}; raise the hard limit (ulimit -Hn) or make the corpus with larger shards"
            )
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
