"""A part: the tokens of some consecutive rows of the input, in a folder of its own.

This is what tokenizing leaves and writing takes up; the two meet nowhere else. A part's folder is
written under a temporary name and renamed when complete. So a part is there whole or not at all,
and which process made it, and when, leaves no trace in it::

    tokens.bin     the ids of all documents, one after the other
    lengths.u32    the number of tokens of each document
    hashes.u64     a hash of each document's text
    labels.u8      only where documents are labelled: a number into the part's own ``labels``
    counts.json    the fields of :class:`Part`, written last

A part may hold rows of several inputs. ``runs`` says which of its documents are whose.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from flexbert.data.format.corpus_format import LABELS_FILE, LENGTHS_FILE
from flexbert.data.reading.split_documents import BLOCK_DOCUMENTS, block_bounds
from flexbert.files.durable import write_text
from flexbert.files.regular import load_json

TOKENS_FILE = "tokens.bin"
HASHES_FILE = "hashes.u64"
COUNTS_FILE = "counts.json"


# Where documents came from in a part that an earlier version made.
NOT_RECORDED = "(made before inputs were counted)"


@dataclass(frozen=True, kw_only=True)
class InputRows:
    """What was read of one input.

    Attributes:
        characters, unknown: as a part's, of this input's documents.
        rejects: number of bad rows by the value of their ``Reject``.
    """

    documents: int = 0
    tokens: int = 0
    characters: int = 0
    unknown: int = 0
    rejects: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: InputRows) -> InputRows:
        rejects = Counter(self.rejects)
        rejects.update(other.rejects)
        return InputRows(
            documents=self.documents + other.documents,
            tokens=self.tokens + other.tokens,
            characters=self.characters + other.characters,
            unknown=self.unknown + other.unknown,
            rejects=dict(sorted(rejects.items())),
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished part on disk.

    Attributes:
        characters: number of characters of all documents.
        unknown: number of tokens that stand for text that the tokenizer does not know.
        sampled, dropped: visible characters of a sample, and those of them that no token covers.
        smallest_hash: of the documents' hashes; None where there is no document.
        rejects: number of bad rows by the value of their ``Reject``.
        labels: what the numbers in ``labels.u8`` stand for; None where documents have no labels.
        inputs: what was read of each input, by its name, in the order of their first rows.
        runs: (number of an input, number of consecutive documents of it) for all documents.
    """

    folder: Path
    documents: int
    tokens: int
    characters: int
    unknown: int
    sampled: int
    dropped: int
    smallest_hash: int | None
    rejects: dict[str, int]
    labels: tuple[str, ...] | None
    inputs: dict[str, InputRows]
    runs: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, folder: Path) -> Part:
        """Read the counts of a finished part.

        Raises:
            OSError, ValueError, KeyError, TypeError: if they are missing or damaged.
        """
        counts: dict[str, Any] = load_json(folder / COUNTS_FILE)
        labels = counts.pop("labels")
        inputs = counts.pop("inputs", None)
        if inputs is None:
            known = (field.name for field in fields(InputRows))
            inputs = {NOT_RECORDED: {name: counts[name] for name in known}}
            counts["runs"] = [(0, counts["documents"])]
        if not isinstance(inputs, dict):
            raise ValueError("its inputs are no mapping")
        runs = tuple((int(number), int(count)) for number, count in counts.pop("runs"))
        if sum(count for _, count in runs) != counts["documents"]:
            raise ValueError("the inputs' documents are not the part's")
        return cls(
            folder=folder,
            labels=None if labels is None else tuple(labels),
            inputs={name: InputRows(**rows) for name, rows in inputs.items()},
            runs=runs,
            **counts,
        )

    def write_counts(self) -> None:
        counts = asdict(self)
        del counts["folder"]
        write_text(self.folder / COUNTS_FILE, json.dumps(counts))

    def is_whole(self, dtype: np.dtype) -> bool:
        """Whether every file has its full size; a copy that was cut off has not."""
        sizes = {
            TOKENS_FILE: self.tokens * dtype.itemsize,
            LENGTHS_FILE: self.documents * 4,
            HASHES_FILE: self.documents * 8,
        }
        if self.labels is not None:
            sizes[LABELS_FILE] = self.documents
        try:
            return all(os.path.getsize(self.folder / name) == size for name, size in sizes.items())
        except OSError:
            return False

    def blocks(self) -> Iterator[DocumentBlock]:
        """All documents, in order, in blocks that fit into memory."""
        first_token = 0
        numbers = np.array([number for number, _ in self.runs], "<u4")
        ends = np.cumsum([count for _, count in self.runs], dtype=np.int64)
        for first in range(0, self.documents, BLOCK_DOCUMENTS):
            lengths = self._column(LENGTHS_FILE, "<u4", first)
            hashes = self._column(HASHES_FILE, "<u8", first)
            labels = None if self.labels is None else self._column(LABELS_FILE, "u1", first)
            documents = np.arange(first, first + len(lengths))
            inputs = numbers[np.searchsorted(ends, documents, side="right")]
            for begin, end in block_bounds(lengths):
                yield DocumentBlock(
                    part=self,
                    first_token=first_token,
                    lengths=lengths[begin:end],
                    hashes=hashes[begin:end],
                    labels=None if labels is None else labels[begin:end],
                    inputs=inputs[begin:end],
                )
                first_token += int(lengths[begin:end].sum(dtype=np.int64))

    def _column(self, name: str, dtype: str, first: int) -> np.ndarray:
        itemsize = np.dtype(dtype).itemsize
        return np.fromfile(self.folder / name, dtype, BLOCK_DOCUMENTS, offset=first * itemsize)


@dataclass(frozen=True, kw_only=True)
class DocumentBlock:
    """Consecutive documents of a part.

    Attributes:
        first_token: where their tokens begin among the part's.
        lengths: number of tokens of each, uint32.
        hashes: hash of each one's text, uint64.
        labels: number of each one's label among the part's, uint8; None where there are none.
        inputs: number of each one's input among the part's, uint32.
    """

    part: Part
    first_token: int
    lengths: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray | None
    inputs: np.ndarray

    def tokens(self, dtype: np.dtype, chosen: np.ndarray) -> np.ndarray:
        """The ids of the documents that the mask ``chosen`` marks, one document after the other."""
        lengths = self.lengths.astype(np.int64)
        # Mapped, so that where few are chosen only their pages are read.
        tokens = np.asarray(
            np.memmap(
                self.part.folder / TOKENS_FILE,
                dtype,
                mode="r",
                offset=self.first_token * dtype.itemsize,
                shape=(int(lengths.sum()),),
            )
        )
        ends = np.cumsum(lengths)[chosen]
        begins = ends - lengths[chosen]
        if len(ends) == len(lengths):
            return tokens.copy()
        slices = map(slice, begins.tolist(), ends.tolist())
        return np.concatenate([tokens[:0], *(tokens[part] for part in slices)])
