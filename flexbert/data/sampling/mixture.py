"""The sources that a stage draws from, and the chunks it draws from them, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flexbert.config.data import DataConfig, SourceConfig
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.data.sampling.fair_queue import Shares, interleave
from flexbert.data.sampling.samplers import Sampler, SamplerKey, SequentialSampler, build_sampler
from flexbert.data.sampling.subset import subsets
from flexbert.errors import ConfigError, config_errors_under

_MARGIN = 1.25  # chunks read ahead of a bucket, over what its share will need


@dataclass(frozen=True)
class Bucket:
    """Chunks of one source that are drawn equally often, in an order of their own.

    Attributes:
        source: the source's name.
        subset: which of its documents, where they are upsampled differently; else empty.
        share: of the source's tokens.
    """

    source: str
    subset: str
    chunks: Chunks
    sampler: Sampler
    share: float

    @property
    def name(self) -> str:
        return f"{self.source}/{self.subset}" if self.subset else self.source


@dataclass(frozen=True)
class Drawn:
    """Consecutive chunks of a mixture.

    Attributes:
        buckets: int32, the number of the bucket that each chunk comes from.
        numbers: int64, its number there.
        lengths: int64, its tokens, special tokens included.
    """

    buckets: np.ndarray
    numbers: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True, kw_only=True)
class BucketShare:
    """What a stage takes from one bucket.

    Attributes:
        share: of the stage's tokens, between 0 and 1.
        tokens: that share, counted.
        epochs: how often the bucket's tokens are seen.
    """

    share: float
    tokens: float
    epochs: float


class Mixture:
    """Buckets of sources with target shares; what is drawn next depends on what was drawn before.

    Attributes:
        buckets: all buckets, source by source.
        source_shares: the target share of each source, by its name.
        shares: the targets of all buckets.
    """

    def __init__(self, buckets: Sequence[Bucket], source_shares: Mapping[str, float]) -> None:
        self.buckets = tuple(buckets)
        self.source_shares = dict(source_shares)
        sizes = [sum(bucket.source == name for bucket in buckets) for name in source_shares]
        self.shares = Shares(
            np.array(list(source_shares.values())),
            np.array([bucket.share for bucket in buckets]),
            np.cumsum([0, *sizes]),
        )

    @property
    def num_chunks(self) -> int:
        """Chunks of all buckets together."""
        return sum(len(bucket.chunks) for bucket in self.buckets)

    def draw(self, count: int, chunks: np.ndarray, tokens: np.ndarray) -> Drawn:
        """The next ``count`` chunks.

        Args:
            chunks, tokens: int64 ``[P]``, drawn from each bucket so far; updated in place.
        """
        if len(self.buckets) == 1:
            numbers = self._read(0, int(chunks[0]), count)
            lengths = self.buckets[0].chunks.lengths(numbers)
            drawn = Drawn(np.zeros(count, np.int32), numbers, lengths)
            chunks += count
            tokens += lengths.sum()
            return drawn
        chosen = np.empty(count, np.int32)
        filled, empty = 0, -1
        at_hand = [
            self._at_hand(bucket, int(chunks[bucket]), 1 + int(expected * _MARGIN))
            for bucket, expected in enumerate(self.expected_chunks(count))
        ]
        taken = np.zeros(len(self.buckets), np.int64)
        while True:
            sizes = np.array([len(numbers) for numbers, _ in at_hand])
            begins = np.cumsum(sizes) - sizes
            heads = begins + taken
            lengths = np.concatenate([lengths for _, lengths in at_hand])
            filled, empty = interleave(
                self.shares, tokens, lengths, heads, begins + sizes, chosen, filled
            )
            taken = heads - begins
            if empty < 0:
                break
            ahead = int(chunks[empty]) + sizes[empty]
            more = self._at_hand(empty, ahead, max(16, int(sizes[empty])))
            at_hand[empty] = tuple(
                np.concatenate(both) for both in zip(at_hand[empty], more, strict=True)
            )
        chunks += taken
        # The i-th chunk that is chosen from a bucket is the i-th of those read ahead.
        order = np.argsort(chosen, kind="stable")
        used = [slice(0, number) for number in taken.tolist()]
        numbers, lengths = np.empty(count, np.int64), np.empty(count, np.int64)
        numbers[order] = np.concatenate([a[0][u] for a, u in zip(at_hand, used, strict=True)])
        lengths[order] = np.concatenate([a[1][u] for a, u in zip(at_hand, used, strict=True)])
        return Drawn(chosen, numbers, lengths)

    def expected_chunks(self, count: int) -> np.ndarray:
        """About how many of ``count`` chunks come from each bucket, float64 ``[P]``."""
        mean_lengths = np.array([p.chunks.num_tokens / len(p.chunks) for p in self.buckets])
        rates = self.shares.of_all / mean_lengths
        return count * rates / rates.sum()

    def sample_lengths(self, size: int) -> np.ndarray:
        """Lengths (int64) of about ``size`` chunks, as the shares mix them."""
        counts = np.maximum(self.expected_chunks(size).astype(np.int64), 1).tolist()
        return np.concatenate(
            [
                bucket.chunks.lengths(bucket.chunks.sample(count))
                for bucket, count in zip(self.buckets, counts, strict=True)
            ]
        )

    def in_corpus_order(self) -> Mixture:
        """The same buckets and shares, each bucket in its corpus's own order."""
        buckets = [
            replace(bucket, sampler=SequentialSampler(bucket.chunks)) for bucket in self.buckets
        ]
        return Mixture(buckets, self.source_shares)

    def describe(self, tokens: int) -> dict[str, BucketShare]:
        """Split ``tokens`` of a stage among the buckets, each by its name."""
        return {
            bucket.name: BucketShare(
                share=share,
                tokens=tokens * share,
                epochs=tokens * share / bucket.chunks.num_tokens,
            )
            for bucket, share in zip(self.buckets, self.shares.of_all.tolist(), strict=True)
        }

    def announce(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Tell splits whose shards are fetched which ones are read between two places.

        Args:
            before, after: chunks drawn from each bucket.
        """
        expected: dict[int, tuple[Split, list[int]]] = {}
        for bucket, begin, end in zip(self.buckets, before, after, strict=True):
            split = bucket.chunks.split
            if split.fetches:
                _, shards = expected.setdefault(id(split), (split, []))
                for epoch, first, last in _epochs(begin, end, len(bucket.chunks)):
                    shards += bucket.sampler.shards_from(epoch, first, last)
        for split, shards in expected.values():
            split.expect(list(dict.fromkeys(shards)))

    def _at_hand(self, bucket: int, begin: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = self._read(bucket, begin, count)
        return numbers, self.buckets[bucket].chunks.lengths(numbers)

    def _read(self, bucket: int, begin: int, count: int) -> np.ndarray:
        """Numbers (int64) of a bucket's chunks, epoch after epoch."""
        order, size = self.buckets[bucket].sampler, len(self.buckets[bucket].chunks)
        found = [order.chunks(*place) for place in _epochs(begin, begin + count, size)]
        return np.concatenate(found).astype(np.int64)


def _epochs(begin: int, end: int, size: int) -> list[tuple[int, int, int]]:
    """``(epoch, begin, end)`` of each epoch of ``size`` chunks that a range touches."""
    return [
        (epoch, max(begin - epoch * size, 0), min(end - epoch * size, size))
        for epoch in range(begin // size, -(-end // size))
    ]


def source_shares(config: DataConfig, num_tokens: Mapping[str, int]) -> dict[str, float]:
    """The share of all tokens that each source should have.

    Args:
        num_tokens: of each source, special tokens included.
    """
    weights = {
        name: source.weight
        if source.weight is not None
        else float(num_tokens[name]) ** config.size_exponent
        for name, source in config.all_sources.items()
    }
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def training_mixture(
    splits: Mapping[str, Split], config: DataConfig, seed: int, stage_order: str, cache: Path
) -> Mixture:
    """The mixture of a stage, every bucket in an order of its own.

    Args:
        stage_order: names the stage's order; see
            :class:`~flexbert.data.sampling.samplers.SamplerKey`.

    Raises:
        ConfigError: if two sources are the same corpus, or an upsampling does not fit its corpus.
        CorpusError: if a split is empty or damaged.
    """
    buckets = []
    num_tokens = {}
    names: dict[str, str] = {}
    for name, source in config.all_sources.items():
        split = splits[name]
        twin = names.setdefault(split.fingerprint, name)
        if twin != name:
            raise ConfigError(f"data.sources.{name}.path", f"is the same corpus as {twin}'s")
        _check_cache_limit(split, source, config)
        with config_errors_under(f"data.sources.{name}"):
            source_buckets = _buckets(name, split, source, config, cache, seed, stage_order)
        num_tokens[name] = sum(bucket.chunks.num_tokens for bucket in source_buckets)
        buckets += source_buckets
    return Mixture(buckets, source_shares(config, num_tokens))


def _check_cache_limit(split: Split, source: SourceConfig, config: DataConfig) -> None:
    """Refuse an order that would need more of a remote split than is kept of it."""
    limit = config.cache_limit
    if source.remote is None or limit is None:
        return
    needed = split.bytes_of_largest(config.sampler.shards_needed)
    if needed > limit.value:
        advice = f"set it to at least {-(-needed >> 20)}mb"
        if config.sampler.shards_needed is None:
            advice += ", or use data.sampler={name: shard_blocks}"
        raise ConfigError(
            "data.cache_limit",
            f"{limit.plain()} is too little: with data.sampler.name={config.sampler.name} up to "
            f"{needed:,} bytes of {split.folder} have to be on disk; {advice}",
        )


def _buckets(
    name: str,
    split: Split,
    source: SourceConfig,
    config: DataConfig,
    cache: Path,
    seed: int,
    stage_order: str,
) -> list[Bucket]:
    cut = Cut(config.max_length, config.merge_below)
    chosen = [None] if source.upsample is None else subsets(split, source.upsample, cache)
    chunks = [Chunks(split, cut, subset, cache) for subset in chosen]
    weights = [
        p.num_tokens * (1.0 if subset is None else subset.factor)
        for p, subset in zip(chunks, chosen, strict=True)
    ]
    buckets = []
    for subset, numbered, weight in zip(chosen, chunks, weights, strict=True):
        subset_name = "" if subset is None else subset.name
        key = SamplerKey(
            seed, stage_order, (split.fingerprint, *([subset_name] if subset_name else []))
        )
        order = build_sampler(config.sampler, numbered, key, cache)
        buckets.append(Bucket(name, subset_name, numbered, order, weight / sum(weights)))
    return buckets
