"""In which order the chunks of a source are seen, epoch after epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numba import njit

from flexbert.config.data import SamplerConfig
from flexbert.config.fields import ORDER, key
from flexbert.config.registry import register
from flexbert.data.sampling.chunks import Chunks
from flexbert.data.sampling.permutation import permutation, shuffled
from flexbert.data.sampling.random_keys import derive_key
from flexbert.errors import ConfigError


@dataclass(frozen=True)
class SamplerKey:
    """What the random numbers of an order are drawn from.

    Attributes:
        seed: the recipe's.
        stage_order: names the stage's order, so that no two stages repeat one.
        source: identifies the documents: a split's fingerprint, and a subset's name if any.
    """

    seed: int
    stage_order: str
    source: tuple[str, ...]

    def derive(self, what: str, *numbers: int) -> int:
        """A 128-bit key for one of the things that are drawn."""
        return derive_key(what, self.seed, self.stage_order, *self.source, *numbers)


class Sampler(Protocol):
    """A permutation of the numbers of all chunks for each epoch."""

    def chunks(self, epoch: int, begin: int, end: int) -> np.ndarray:
        """The numbers of the chunks at the places ``begin`` up to ``end`` of an epoch."""

    def places(self, epoch: int, numbers: np.ndarray) -> np.ndarray:
        """At which place of an epoch each of these chunks stands: the inverse (int64)."""

    def shards_from(self, epoch: int, begin: int, end: int) -> Sequence[int]:
        """The shards that these places read, and those that the ones soon after them will."""


class SamplerFactory(SamplerConfig):
    """What every ``data.sampler`` is: it makes the sampler of one bucket of chunks."""

    @abstractmethod
    def build(self, chunks: Chunks, key: SamplerKey, cache: Path) -> Sampler:
        """The order of these chunks that ``key`` decides; a large one keeps files in ``cache``."""


def build_sampler(config: SamplerConfig, chunks: Chunks, key: SamplerKey, cache: Path) -> Sampler:
    """The sampler that a recipe names.

    Raises:
        ConfigError: if what is registered under that name makes none, or half of one.
    """
    if not isinstance(config, SamplerFactory):
        raise ConfigError("data.sampler.name", f"{config.name} is no SamplerFactory")
    sampler = config.build(chunks, key, cache)
    # Not all are asked for by every run: shards_from by a remote corpus, places by flexbert seen.
    missing = [m for m in ("chunks", "places", "shards_from") if not hasattr(sampler, m)]
    if missing:
        raise ConfigError(
            "data.sampler.name",
            f"{config.name} builds a {type(sampler).__name__}, which lacks {', '.join(missing)}",
        )
    return sampler


@register("pcg64dxsm")
@dataclass(frozen=True, kw_only=True)
class PermutationConfig(SamplerFactory):
    """A PCG64DXSM permutation of all chunks of a source, another one each epoch."""

    @property
    def shards_needed(self) -> int | None:
        return None

    def build(self, chunks: Chunks, key: SamplerKey, cache: Path) -> Sampler:
        return PermutationSampler(chunks, key, cache)


@register("shard_blocks")
@dataclass(frozen=True, kw_only=True)
class ShardBlocksConfig(SamplerFactory):
    """PCG64DXSM over shards, then over the chunks of each block of shards: for bounded caches.

    Attributes:
        block_shards: shards whose chunks are shuffled together.
    """

    block_shards: int = key(ORDER, default=32, at_least=1, unit="shards")

    @property
    def shards_needed(self) -> int | None:
        # Where a window straddles two blocks, and the next is being fetched.
        return 3 * self.block_shards

    def build(self, chunks: Chunks, key: SamplerKey, cache: Path) -> Sampler:
        return ShardBlocksSampler(chunks, key, self.block_shards)


class PermutationSampler:
    """Every order of all chunks is equally likely; a large one is a file that a node shares."""

    def __init__(self, chunks: Chunks, key: SamplerKey, cache: Path) -> None:
        self._chunks = chunks
        self._key = key
        self._cache = cache
        self._epochs: dict[int, np.ndarray] = {}

    def chunks(self, epoch: int, begin: int, end: int) -> np.ndarray:
        return self._permutation(epoch)[begin:end]

    def places(self, epoch: int, numbers: np.ndarray) -> np.ndarray:
        return places_of(numbers, self._permutation(epoch))

    def shards_from(self, epoch: int, begin: int, end: int) -> Sequence[int]:
        documents, _, _ = self._chunks.locate(self.chunks(epoch, begin, end))
        return list(dict.fromkeys(self._chunks.split.shards_of(documents).tolist()))

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                del self._epochs[next(iter(self._epochs))]
            # An older word for chunks; another one would be another order.
            key = self._key.derive("pieces", epoch)
            self._epochs[epoch] = permutation(len(self._chunks), key, self._cache)
        return self._epochs[epoch]


class ShardBlocksSampler:
    """An epoch visits the shards in random order, some at a time, and shuffles their chunks."""

    def __init__(self, chunks: Chunks, key: SamplerKey, block_shards: int) -> None:
        self._chunks = chunks
        self._key = key
        self._block_shards = block_shards
        borders = chunks.split.first_documents
        self._shard_sizes = np.array(
            [
                chunks.num_of_documents(first, end)
                for first, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
            ]
        )
        self._num_blocks = -(-len(self._shard_sizes) // block_shards)
        self._blocks: dict[tuple[int, int], np.ndarray] = {}
        self._epoch = -1

    def chunks(self, epoch: int, begin: int, end: int) -> np.ndarray:
        self._enter(epoch)
        found = []
        for block in self._blocks_between(begin, end):
            first = int(self._block_begins[block])
            found.append(self._block(block)[max(begin - first, 0) : end - first])
        return np.concatenate(found)

    def places(self, epoch: int, numbers: np.ndarray) -> np.ndarray:
        self._enter(epoch)
        documents, _, _ = self._chunks.locate(numbers)
        place_of_shard = np.argsort(self._shards)
        blocks = place_of_shard[self._chunks.split.shards_of(documents)] // self._block_shards
        places = np.empty(len(numbers), np.int64)
        for block in np.unique(blocks).tolist():
            inside = blocks == block
            within = places_of(numbers[inside], self._block(block))
            places[inside] = self._block_begins[block] + within
        return places

    def shards_from(self, epoch: int, begin: int, end: int) -> Sequence[int]:
        self._enter(epoch)
        blocks = self._blocks_between(begin, end)
        shards = [self._shards_of_block(block) for block in range(blocks.start, blocks.stop + 1)]
        if blocks.stop >= self._num_blocks:  # the next epoch's first block comes next
            shards.append(self._shard_order(epoch + 1)[: self._block_shards])
        return list(dict.fromkeys(np.concatenate(shards).tolist()))

    def _enter(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._blocks.clear()
            self._shards = self._shard_order(epoch)
            starts = np.arange(0, len(self._shards), self._block_shards)
            sizes = np.add.reduceat(self._shard_sizes[self._shards], starts)
            self._block_begins = np.cumsum(sizes) - sizes
            self._block_ends = np.cumsum(sizes)

    def _shard_order(self, epoch: int) -> np.ndarray:
        return shuffled(len(self._shard_sizes), self._key.derive("shards", epoch))

    def _blocks_between(self, begin: int, end: int) -> range:
        first = int(np.searchsorted(self._block_ends, begin, side="right"))
        return range(first, int(np.searchsorted(self._block_begins, end, side="left")))

    def _shards_of_block(self, block: int) -> np.ndarray:
        return self._shards[block * self._block_shards : (block + 1) * self._block_shards]

    def _block(self, block: int) -> np.ndarray:
        """The shuffled chunks of a block of the present epoch; the last few are kept."""
        address = (self._epoch, block)
        if address not in self._blocks:
            while len(self._blocks) > 1:
                del self._blocks[next(iter(self._blocks))]
            borders = self._chunks.split.first_documents
            numbers = np.concatenate(
                [
                    self._chunks.of_documents(int(borders[shard]), int(borders[shard + 1]))
                    for shard in self._shards_of_block(block).tolist()
                ]
            )
            order = shuffled(len(numbers), self._key.derive("block", self._epoch, block))
            self._blocks[address] = numbers[order]
        return self._blocks[address]


class SequentialSampler:
    """The chunks as they are numbered: the order of evaluation, and of a plan's sample."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def chunks(self, epoch: int, begin: int, end: int) -> np.ndarray:
        return np.arange(begin, end)

    def places(self, epoch: int, numbers: np.ndarray) -> np.ndarray:
        return numbers.astype(np.int64)

    def shards_from(self, epoch: int, begin: int, end: int) -> Sequence[int]:
        documents, _, _ = self._chunks.locate(np.arange(begin, end))
        return list(dict.fromkeys(self._chunks.split.shards_of(documents).tolist()))


def places_of(numbers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Where each of some numbers stands in a permutation (int64), by reading it through."""
    numbers = numbers.astype(order.dtype)
    ascending = np.unique(numbers)
    return _find(ascending, order)[np.searchsorted(ascending, numbers)]


@njit(cache=True)
def _find(ascending: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The place of each of these numbers in ``order``; -1 where it is not there."""
    places = np.full(len(ascending), -1, np.int64)
    # Most of what is read is none of them, and its last 16 bits say so.
    maybe = np.zeros(1 << 16, np.bool_)
    mask = np.uint64(0xFFFF)
    for number in ascending:
        maybe[np.uint64(number) & mask] = True
    for place in range(len(order)):
        number = order[place]
        if maybe[np.uint64(number) & mask]:
            index = np.searchsorted(ascending, number)
            if index < len(ascending) and ascending[index] == number:
                places[index] = place
    return places
