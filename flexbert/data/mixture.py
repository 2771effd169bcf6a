"""The sources that a stage draws from, and the pieces it draws from them, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flexbert.config.data import DataConfig, SourceConfig
from flexbert.data.corpus import Split
from flexbert.data.interleave import Shares, interleave
from flexbert.data.order import FixedOrder, Order, OrderKey
from flexbert.data.pieces import Cut, Pieces
from flexbert.data.subset import subsets
from flexbert.errors import ConfigError, config_errors_under

_MARGIN = 1.25  # pieces read ahead of a part, over what its share will need


@dataclass(frozen=True)
class Part:
    """Pieces of one source that are drawn alike, in an order of their own.

    Attributes:
        source: the source's name.
        subset: which of its documents, where they are upsampled differently; else empty.
        share: of the source's tokens.
    """

    source: str
    subset: str
    pieces: Pieces
    order: Order
    share: float

    @property
    def name(self) -> str:
        return f"{self.source}/{self.subset}" if self.subset else self.source


@dataclass(frozen=True)
class Drawn:
    """Consecutive pieces of a mixture.

    Attributes:
        parts: int32, the number of the part that each piece comes from.
        numbers: int64, its number there.
        lengths: int64, its tokens, special tokens included.
    """

    parts: np.ndarray
    numbers: np.ndarray
    lengths: np.ndarray


class Mixture:
    """Parts of sources with target shares; what is drawn next depends on what was drawn before.

    Attributes:
        parts: all parts, source by source.
        source_shares: the target share of each source, by its name.
        shares: the targets of all parts.
    """

    def __init__(self, parts: Sequence[Part], source_shares: Mapping[str, float]) -> None:
        self.parts = tuple(parts)
        self.source_shares = dict(source_shares)
        sizes = [sum(part.source == name for part in parts) for name in source_shares]
        self.shares = Shares(
            np.array(list(source_shares.values())),
            np.array([part.share for part in parts]),
            np.cumsum([0, *sizes]),
        )

    @property
    def num_pieces(self) -> int:
        """Pieces of all parts together."""
        return sum(len(part.pieces) for part in self.parts)

    def draw(self, count: int, pieces: np.ndarray, tokens: np.ndarray) -> Drawn:
        """The next ``count`` pieces.

        Args:
            pieces, tokens: int64 ``[P]``, what was drawn from each part so far; brought up to date.
        """
        if len(self.parts) == 1:
            numbers = self._read(0, int(pieces[0]), count)
            lengths = self.parts[0].pieces.lengths(numbers)
            drawn = Drawn(np.zeros(count, np.int32), numbers, lengths)
            pieces += count
            tokens += lengths.sum()
            return drawn
        chosen = np.empty(count, np.int32)
        filled, empty = 0, -1
        at_hand = [
            self._at_hand(part, int(pieces[part]), 1 + int(expected * _MARGIN))
            for part, expected in enumerate(self.expected_pieces(count))
        ]
        taken = np.zeros(len(self.parts), np.int64)
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
            ahead = int(pieces[empty]) + sizes[empty]
            more = self._at_hand(empty, ahead, max(16, int(sizes[empty])))
            at_hand[empty] = tuple(
                np.concatenate(both) for both in zip(at_hand[empty], more, strict=True)
            )
        pieces += taken
        # The i-th piece that is chosen from a part is the i-th of those at hand.
        order = np.argsort(chosen, kind="stable")
        used = [slice(0, number) for number in taken.tolist()]
        numbers, lengths = np.empty(count, np.int64), np.empty(count, np.int64)
        numbers[order] = np.concatenate([a[0][u] for a, u in zip(at_hand, used, strict=True)])
        lengths[order] = np.concatenate([a[1][u] for a, u in zip(at_hand, used, strict=True)])
        return Drawn(chosen, numbers, lengths)

    def expected_pieces(self, count: int) -> np.ndarray:
        """About how many of ``count`` pieces come from each part, float64 ``[P]``."""
        mean_lengths = np.array([p.pieces.num_tokens / len(p.pieces) for p in self.parts])
        rates = self.shares.of_all / mean_lengths
        return count * rates / rates.sum()

    def sample_lengths(self, size: int) -> np.ndarray:
        """Lengths (int64) of about ``size`` pieces, as the shares mix them."""
        counts = np.maximum(self.expected_pieces(size).astype(np.int64), 1).tolist()
        return np.concatenate(
            [
                part.pieces.lengths(part.pieces.sample(count))
                for part, count in zip(self.parts, counts, strict=True)
            ]
        )

    def in_fixed_order(self) -> Mixture:
        """The same parts and shares, each part in its corpus's own order."""
        parts = [replace(part, order=FixedOrder(part.pieces)) for part in self.parts]
        return Mixture(parts, self.source_shares)

    def describe(self, tokens: int) -> dict[str, dict[str, float]]:
        """Share, tokens and epochs of each part over a stage of so many tokens."""
        return {
            part.name: {
                "share": share,
                "tokens": tokens * share,
                "epochs": tokens * share / part.pieces.num_tokens,
            }
            for part, share in zip(self.parts, self.shares.of_all.tolist(), strict=True)
        }

    def announce(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Tell splits whose shards are fetched which ones are read between two places.

        Args:
            before, after: pieces drawn from each part.
        """
        expected: dict[int, tuple[Split, list[int]]] = {}
        for part, begin, end in zip(self.parts, before, after, strict=True):
            split = part.pieces.split
            if split.fetches:
                _, shards = expected.setdefault(id(split), (split, []))
                for epoch, first, last in _epochs(begin, end, len(part.pieces)):
                    shards += part.order.shards_from(epoch, first, last)
        for split, shards in expected.values():
            split.expect(list(dict.fromkeys(shards)))

    def _at_hand(self, part: int, begin: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = self._read(part, begin, count)
        return numbers, self.parts[part].pieces.lengths(numbers)

    def _read(self, part: int, begin: int, count: int) -> np.ndarray:
        """Numbers (int64) of a part's pieces, epoch after epoch."""
        order, size = self.parts[part].order, len(self.parts[part].pieces)
        found = [order.pieces(*place) for place in _epochs(begin, begin + count, size)]
        return np.concatenate(found).astype(np.int64)


def _epochs(begin: int, end: int, size: int) -> list[tuple[int, int, int]]:
    """``(epoch, begin, end)`` of each epoch of ``size`` pieces that a range touches."""
    return [
        (epoch, max(begin - epoch * size, 0), min(end - epoch * size, size))
        for epoch in range(begin // size, -(-end // size))
    ]


def source_shares(config: DataConfig, num_tokens: Mapping[str, int]) -> dict[str, float]:
    """The part of all tokens that each source should have.

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
    """The mixture of a stage, every part in an order of its own.

    Args:
        stage_order: names the stage's order; see :class:`flexbert.data.order.OrderKey`.

    Raises:
        ConfigError: if two sources are the same corpus, or an upsampling does not fit its corpus.
        CorpusError: if a split is empty or damaged.
    """
    parts = []
    num_tokens = {}
    names: dict[str, str] = {}
    for name, source in config.all_sources.items():
        split = splits[name]
        twin = names.setdefault(split.fingerprint, name)
        if twin != name:
            raise ConfigError(f"data.sources.{name}.path", f"is the same corpus as {twin}'s")
        _check_cache_limit(split, source, config)
        with config_errors_under(f"data.sources.{name}"):
            source_parts = _parts(name, split, source, config, cache, seed, stage_order)
        num_tokens[name] = sum(part.pieces.num_tokens for part in source_parts)
        parts += source_parts
    return Mixture(parts, source_shares(config, num_tokens))


def _check_cache_limit(split: Split, source: SourceConfig, config: DataConfig) -> None:
    """Refuse an order that would need more of a remote split than is kept of it."""
    limit = config.cache_limit
    if source.remote is None or limit is None:
        return
    needed = split.bytes_of_largest(config.order.shards_at_hand)
    if needed > limit.value:
        advice = f"set it to at least {-(-needed >> 20)}mb"
        if config.order.shards_at_hand is None:
            advice += ", or use data.order={name: shard_blocks}"
        raise ConfigError(
            "data.cache_limit",
            f"{limit.plain()} is too little: with data.order.name={config.order.name} up to "
            f"{needed:,} bytes of {split.folder} have to be at hand; {advice}",
        )


def _parts(
    name: str,
    split: Split,
    source: SourceConfig,
    config: DataConfig,
    cache: Path,
    seed: int,
    stage_order: str,
) -> list[Part]:
    cut = Cut(config.max_length, config.merge_below)
    chosen = [None] if source.upsample is None else subsets(split, source.upsample, cache)
    pieces = [Pieces(split, cut, subset, cache) for subset in chosen]
    weights = [
        p.num_tokens * (1.0 if subset is None else subset.factor)
        for p, subset in zip(pieces, chosen, strict=True)
    ]
    parts = []
    for subset, numbered, weight in zip(chosen, pieces, weights, strict=True):
        subset_name = "" if subset is None else subset.name
        key = OrderKey(
            seed, stage_order, (split.fingerprint, *([subset_name] if subset_name else []))
        )
        order = config.order.build(numbered, key, cache)
        parts.append(Part(name, subset_name, numbered, order, weight / sum(weights)))
    return parts
