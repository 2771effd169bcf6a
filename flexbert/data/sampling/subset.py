"""Documents of a split that weigh the same: those of some lengths, or with some labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flexbert.config.data import UpsampleConfig
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.permutation import number_dtype
from flexbert.data.sampling.random_keys import derive_key
from flexbert.errors import ConfigError, did_you_mean
from flexbert.files.node_arrays import IN_MEMORY, node_array

_AT_ONCE = 1 << 24  # documents looked at together
_NO_END = 1 << 32


@dataclass(frozen=True)
class Subset:
    """Documents of at least ``shortest`` and fewer than ``end`` tokens with one of these labels.

    Attributes:
        labels: ``None`` takes every document, labelled or not.
        factor: how much a token of theirs weighs.
    """

    shortest: int
    end: int
    labels: tuple[str, ...] | None
    factor: float

    @property
    def name(self) -> str:
        """What tells it from other subsets of the split; the factor is no part of it."""
        parts = []
        if (self.shortest, self.end) != (0, _NO_END):
            parts.append(f"{self.shortest}-{'' if self.end == _NO_END else self.end - 1}")
        if self.labels is not None:
            parts.append("+".join(label or "unlabelled" for label in self.labels))
        return "/".join(parts)

    def key(self, split: Split) -> str:
        """What its documents depend on besides the split's fingerprint."""
        return self.name if self.labels is None else f"{self.name} {split.labels_hash}"

    def documents(self, split: Split, cache: Path | None) -> np.ndarray:
        """The numbers of its documents, in order."""
        dtype = number_dtype(split.num_documents)

        def write(out: BinaryIO) -> None:
            for documents, _ in self._selected(split):
                out.write(documents.astype(dtype).data)

        if cache is None or split.num_documents <= IN_MEMORY:
            return np.concatenate([documents for documents, _ in self._selected(split)]).astype(
                dtype
            )
        return node_array(self._file(split, cache, "documents"), dtype, write)

    def num_tokens(self, split: Split, cache: Path | None) -> int:
        """Tokens of its documents."""

        def count() -> int:
            return sum(int(lengths.sum(dtype=np.int64)) for _, lengths in self._selected(split))

        if cache is None or split.num_documents <= IN_MEMORY:
            return count()
        file = self._file(split, cache, "tokens")

        def write(out: BinaryIO) -> None:
            out.write(np.int64(count()).tobytes())

        return int(node_array(file, np.dtype(np.int64), write)[0])

    def _file(self, split: Split, cache: Path, what: str) -> Path:
        key = derive_key("subset", split.fingerprint, self.key(split))
        return cache / f"{key:032x}.{what}"

    def _selected(self, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers and lengths of its documents, many at a time."""
        for begin in range(0, split.num_documents, _AT_ONCE):
            lengths = split.lengths[begin : begin + _AT_ONCE]
            chosen = (lengths >= self.shortest) & (lengths < self.end)
            if self.labels is not None:
                numbers = [split.meta.labels.index(label) for label in self.labels]
                chosen &= np.isin(split.labels[begin : begin + _AT_ONCE], numbers)
            found = np.flatnonzero(chosen)
            yield found + begin, lengths[found]


def subsets(split: Split, upsample: UpsampleConfig, cache: Path | None) -> list[Subset]:
    """The subsets of a split that weigh differently, those that are left out left out.

    Raises:
        ConfigError: if the corpus does not know a label, or no document is left.
    """
    known = split.meta.labels
    named = [label for label in known if label]
    for label in upsample.labels:
        if label not in known:
            problem = f"{split.folder.parent} has no such label; {did_you_mean(label, named)}"
            raise ConfigError(f"upsample.labels.{label}", problem)
    by_factor: dict[float, list[str]] = {}
    for label in known if upsample.labels else ():
        by_factor.setdefault(upsample.labels.get(label, 1.0), []).append(label)
    label_groups: list[tuple[float, tuple[str, ...] | None]] = [
        (factor, tuple(labels)) for factor, labels in by_factor.items()
    ]
    borders = sorted((int(length), factor) for length, factor in upsample.lengths.items())
    ranges = [(0, 1.0), *borders]
    found = []
    for (shortest, factor), end in zip(
        ranges, [*(length for length, _ in borders), _NO_END], strict=True
    ):
        for label_factor, labels in label_groups or [(1.0, None)]:
            found.append(Subset(shortest, end, labels, factor * label_factor))
    kept = [s for s in found if s.factor > 0 and len(s.documents(split, cache))]
    if not kept:
        raise ConfigError("upsample", f"leaves no document of {split.folder}")
    return kept
