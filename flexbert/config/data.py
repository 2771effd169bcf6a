"""Which corpora a stage reads, in which order, how its rows are made, and what is masked."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from flexbert.config.decode import run_time
from flexbert.config.num_bytes import NumBytes
from flexbert.config.registry import Component
from flexbert.errors import ConfigError

ONLY_SOURCE = "corpus"  # the name of the source that ``data.path`` stands for


@dataclass(frozen=True, kw_only=True)
class MaskSplit:
    """What becomes of a selected token; the parts sum to 1 (BERT's 80/10/10 unless told)."""

    mask: float = 0.8
    random: float = 0.1
    keep: float = 0.1

    def __post_init__(self) -> None:
        for part in ("mask", "random", "keep"):
            if not 0 <= getattr(self, part) <= 1:
                raise ConfigError(part, f"must be between 0 and 1, got {getattr(self, part)}")
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ConfigError("", f"mask, random and keep must sum to 1, got {total:g}")


class SamplerConfig(Component, ABC, family="sampler"):
    """In which order the chunks of a source are seen.

    Members are :class:`~flexbert.data.sampling.samplers.SamplerFactory`, which makes the sampler.

    Attributes:
        shards_needed: how many shards have to be on disk at any time; ``None`` is all of them.
    """

    @property
    @abstractmethod
    def shards_needed(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class UpsampleConfig:
    """Which documents of a source are seen more often than its others; its share stays.

    A document's tokens weigh the product of its factors; 0 leaves it out.

    Attributes:
        lengths: factor by length: the largest key that is at most the document's number of tokens
            counts, and shorter documents weigh 1. ``{4096: 5}`` is long-context upsampling within
            a source (Fu et al. 2024, "Data engineering for scaling language models to 128K
            context").
        labels: factor by the label that data_prep gave the document; others weigh 1.
    """

    lengths: dict[str, float] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lengths and not self.labels:
            raise ConfigError("", "names neither lengths nor labels")
        for kind in ("lengths", "labels"):
            for key, factor in getattr(self, kind).items():
                if factor < 0:
                    raise ConfigError(f"{kind}.{key}", f"must not be negative, got {factor:g}")
        for key in self.lengths:
            if not key.isdecimal() or int(key) == 0:
                raise ConfigError(
                    f"lengths.{key}", "must be a number of tokens, from which on the factor counts"
                )


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One corpus of a mixture.

    Attributes:
        path: a corpus made by data_prep, or the folder that a remote one is copied to.
        remote: where the corpus lies (``s3://...``, ``sftp://...``, a folder); shards are fetched
            to ``path`` as they are needed.
        weight: the source's part of the tokens, in proportion to the other weights.
        upsample: which of its documents are seen more often.
    """

    path: Path | None = run_time(default=None)
    remote: str | None = None
    weight: float | None = None
    upsample: UpsampleConfig | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and self.weight <= 0:
            raise ConfigError("weight", f"must be above 0, got {self.weight:g}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The ``data`` node of a recipe.

    Attributes:
        path: a corpus made by data_prep; ``None`` while a recipe is planned without one, or where
            ``sources`` are given.
        remote: where that corpus lies, if not in ``path`` itself: see :class:`SourceConfig`.
        sources: a mixture of corpora, by names of your choice.
        size_exponent: where sources have no weights, each one's part of the tokens is in proportion
            to its number of tokens to this power: 1 draws from all alike, 0 gives each the same
            part. It is 1/T of temperature sampling, mT5's alpha and mmBERT's tau.
        sampler: in which order the chunks of a source are seen.
        max_length: tokens per sequence at most, [CLS] and [SEP] included.
        merge_below: where a document's last chunk has fewer tokens than this, it and the chunk
            before it are cut in two halves instead; 0 keeps every cut at ``max_length``.
        row_length: capacity of one packed row, in tokens.
        mask_rate: share of the ordinary tokens that training selects for prediction.
        mask_split: what becomes of the selected ones.
        packing_window: chunks that are packed together; more of them fill rows better and start
            slower.
        num_workers: processes that prepare batches ahead; 0 prepares them in the training process.
        tokenizer: when given, every corpus must have been made with this tokenizer.
        verify_hashes: compare every shard with its hash on opening; unless told, splits up to
            1 GiB are compared.
        cache: folder for what a node's processes share about large corpora: orders (4 bytes a
            chunk) and where long documents are cut; unless told, one in the system's folder for
            temporary files.
        cache_limit: bytes of shards that a node keeps of each remote split; none keeps all.
        accept_changed_order: continue a run although its data has changed since: a new order
            begins, and what is seen of it does not depend on what was seen before.
    """

    path: Path | None = run_time(default=None)
    remote: str | None = None
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    size_exponent: float = 1.0
    sampler: SamplerConfig
    max_length: int
    merge_below: int = 0
    row_length: int
    mask_rate: float
    mask_split: MaskSplit = field(default_factory=MaskSplit)
    packing_window: int = 16_384
    num_workers: int = 1
    tokenizer: Path | None = None
    verify_hashes: bool | None = None
    cache: Path | None = None
    cache_limit: NumBytes | None = None
    accept_changed_order: bool = False

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ConfigError(
                "max_length",
                f"must hold [CLS], a token and [SEP]: at least 3, got {self.max_length}",
            )
        if not 0 <= self.merge_below <= self.max_length - 2:
            raise ConfigError(
                "merge_below",
                f"must be at most the {self.max_length - 2} tokens of a full chunk, "
                f"got {self.merge_below}",
            )
        if self.row_length < self.max_length:
            raise ConfigError(
                "row_length",
                f"must hold a sequence of max_length {self.max_length}, got {self.row_length}",
            )
        if not 0 < self.mask_rate <= 1:
            raise ConfigError("mask_rate", f"must be above 0 and at most 1, got {self.mask_rate}")
        if self.packing_window < 1:
            raise ConfigError("packing_window", f"must be at least 1, got {self.packing_window}")
        if self.num_workers < 0:
            raise ConfigError("num_workers", f"must be 0 or more, got {self.num_workers}")
        self._check_sources()

    def _check_sources(self) -> None:
        if self.path is not None and self.sources:
            raise ConfigError("path", "a recipe has data.path or data.sources, not both")
        if self.remote is not None and self.sources:
            raise ConfigError("remote", "belongs to each of data.sources here")
        for name in self.sources:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ConfigError(
                    f"sources.{name}", "a source's name is of letters, digits, '_' and '-'"
                )
        weighted = [name for name, source in self.sources.items() if source.weight is not None]
        if weighted and len(weighted) < len(self.sources):
            (first, *_) = (name for name in self.sources if name not in weighted)
            raise ConfigError(f"sources.{first}.weight", "is missing: the other sources have one")
        if self.size_exponent != 1 and (weighted or not self.sources):
            why = "the sources have weights" if weighted else "there is one corpus"
            raise ConfigError("size_exponent", f"would do nothing: {why}")
        if self.cache_limit is not None and not any(s.remote for s in self.all_sources.values()):
            raise ConfigError("cache_limit", "would do nothing: no corpus is remote")

    @property
    def all_sources(self) -> dict[str, SourceConfig]:
        """Every source by name, sorted: in which order a recipe lists them means nothing.

        ``path`` alone is a mixture of one.
        """
        if not self.sources:
            return {ONLY_SOURCE: SourceConfig(path=self.path, remote=self.remote)}
        return dict(sorted(self.sources.items()))
