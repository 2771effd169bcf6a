"""Which corpora a stage reads, in which order, how its rows are made, and what is masked."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from flexbert.config.fields import OPERATIONAL, ORDER, Node, key
from flexbert.config.masking_choice import SINGLE_TOKENS, MaskingConfig
from flexbert.config.num_bytes import NumBytes
from flexbert.config.registry import Component
from flexbert.config.remote_address import RemoteAddress
from flexbert.errors import ConfigError

ONLY_SOURCE = "corpus"  # the name of the source that ``data.path`` stands for


@dataclass(frozen=True, kw_only=True)
class MaskSplit(Node):
    """What becomes of a selected token; the parts sum to 1 (by default 80/10/10, BERT's).

    Attributes:
        mask: share that [MASK] replaces.
        random: share that another token of the ordinary vocabulary replaces.
        keep: share that stays.
    """

    mask: float = key(ORDER, default=0.8, at_least=0, at_most=1)
    random: float = key(ORDER, default=0.1, at_least=0, at_most=1)
    keep: float = key(ORDER, default=0.1, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
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
class UpsampleConfig(Node):
    """Which documents of a source are seen more often than its others; its share stays.

    A document's tokens weigh the product of its factors; 0 leaves it out.

    Attributes:
        lengths: factor by length: the largest key that is at most the document's number of tokens
            counts, and shorter documents weigh 1. ``{4096: 5}`` is long-context upsampling within
            a source (Fu et al. 2024, "Data engineering for scaling language models to 128K
            context").
        labels: factor by the label that data_prep gave the document; others weigh 1.
    """

    lengths: dict[str, float] = key(ORDER, default_factory=dict, at_least=0)
    labels: dict[str, float] = key(ORDER, default_factory=dict, at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lengths and not self.labels:
            raise ConfigError("", "names neither lengths nor labels")
        for length in self.lengths:
            if not length.isdecimal() or int(length) == 0:
                raise ConfigError(
                    f"lengths.{length}",
                    "must be a number of tokens, from which on the factor counts",
                )


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Node):
    """One corpus of a mixture.

    Attributes:
        path: a corpus made by data_prep, or the folder that a remote one is copied to.
        remote: where the corpus lies (``s3://...``, ``sftp://...``, a folder); shards are fetched
            to ``path`` as they are needed.
        weight: the source's part of the tokens, in proportion to the other weights.
        upsample: which of its documents are seen more often.
    """

    path: Path | None = key(OPERATIONAL, default=None, run_time=True)
    remote: RemoteAddress | None = key(OPERATIONAL, default=None)
    weight: float | None = key(ORDER, default=None, above=0)
    upsample: UpsampleConfig | None = key(ORDER, default=None)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Node):
    """What a stage reads, how rows are made of it, and what is masked.

    Attributes:
        path: a corpus made by data_prep, or the folder that a remote one is copied to; null while
            a recipe is planned without one, or where ``sources`` are given.
        remote: where that corpus lies, if not in ``path`` itself (``s3://...``, ``sftp://...``, a
            folder); shards are fetched to ``path`` as they are needed.
        sources: a mixture of corpora, by names of your choice.
        size_exponent: where sources have no weights, each one's part of the tokens is in proportion
            to its number of tokens to this power: 1 draws from them as from one corpus, 0 gives
            each the same part. It is 1/T of temperature sampling, mT5's alpha and mmBERT's tau.
        sampler: in which order the chunks of a source are seen.
        max_length: tokens per sequence at most; [CLS], one token and [SEP] at least.
        merge_below: where a document's last chunk has fewer tokens than this, it and the chunk
            before it are cut in two halves instead; 0 keeps every cut at ``max_length``.
        row_length: capacity of one packed row.
        mask_rate: share of the ordinary tokens that training selects for prediction.
        masking: which tokens are selected together: single ones, whole words or spans.
        mask_split: what becomes of the selected ones.
        packing_window: how many chunks are packed together; more of them fill rows better and
            start slower.
        num_workers: processes that prepare batches ahead; 0 prepares them in the training process.
        tokenizer: when given, every corpus must have been made with this tokenizer.
        verify_hashes: compare every shard with its hash on opening; null compares splits up to
            1 GiB.
        cache: folder for what a node's processes share about large corpora: orders (4 bytes a
            chunk) and where long documents are cut; null is one in the system's folder for
            temporary files.
        cache_limit: what a node keeps of each remote split's shards; null keeps all.
        accept_changed_order: continue a run although its data has changed since: a new order
            begins, and what is seen of it does not depend on what was seen before.
    """

    path: Path | None = key(OPERATIONAL, default=None, run_time=True)
    remote: RemoteAddress | None = key(OPERATIONAL, default=None)
    sources: dict[str, SourceConfig] = key(ORDER, default_factory=dict)
    size_exponent: float = key(ORDER, default=1.0)
    sampler: SamplerConfig = key(ORDER)
    max_length: int = key(ORDER, at_least=3, unit="tokens")
    merge_below: int = key(ORDER, default=0, at_least=0, unit="tokens")
    row_length: int = key(ORDER, unit="tokens")
    mask_rate: float = key(ORDER, above=0, at_most=1)
    masking: MaskingConfig = key(ORDER, default=SINGLE_TOKENS)
    mask_split: MaskSplit = key(ORDER, default_factory=MaskSplit)
    packing_window: int = key(ORDER, default=16_384, at_least=1, unit="chunks")
    num_workers: int = key(OPERATIONAL, default=1, at_least=0, unit="processes")
    tokenizer: Path | None = key(OPERATIONAL, default=None)
    verify_hashes: bool | None = key(OPERATIONAL, default=None)
    cache: Path | None = key(OPERATIONAL, default=None)
    cache_limit: NumBytes | None = key(OPERATIONAL, default=None)
    accept_changed_order: bool = key(OPERATIONAL, default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.merge_below > self.max_length - 2:
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
