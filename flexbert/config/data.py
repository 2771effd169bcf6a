"""Which corpus a stage reads, how its rows are made, and what is masked in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from flexbert.config.decode import run_time
from flexbert.errors import ConfigError


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


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The ``data`` node of a recipe.

    Attributes:
        path: a corpus made by data_prep; ``None`` only while a recipe is planned without one.
        max_length: tokens per sequence at most, [CLS] and [SEP] included.
        row_length: capacity of one packed row, in tokens.
        mask_rate: share of the ordinary tokens that training selects for prediction.
        mask_split: what becomes of the selected ones.
        window: pieces that are packed together; more of them fill rows better, and start slower.
        num_workers: processes that prepare batches ahead; 0 prepares them in the training process.
        tokenizer: when given, the corpus must have been made with this tokenizer.
        verify_hashes: compare every shard with its hash on opening; unless told, splits up to
            1 GiB are compared.
        cache: folder for the order of large epochs (4 bytes a piece), shared by the processes of a
            node; unless told, one in the system's folder for temporary files.
    """

    path: Path | None = run_time()
    max_length: int
    row_length: int
    mask_rate: float = 0.3
    mask_split: MaskSplit = field(default_factory=MaskSplit)
    window: int = 16_384
    num_workers: int = 1
    tokenizer: Path | None = None
    verify_hashes: bool | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ConfigError(
                "max_length",
                f"must hold [CLS], a token and [SEP]: at least 3, got {self.max_length}",
            )
        if self.row_length < self.max_length:
            raise ConfigError(
                "row_length",
                f"must hold a sequence of max_length {self.max_length}, got {self.row_length}",
            )
        if not 0 < self.mask_rate <= 1:
            raise ConfigError("mask_rate", f"must be above 0 and at most 1, got {self.mask_rate}")
        if self.window < 1:
            raise ConfigError("window", f"must be at least 1, got {self.window}")
        if self.num_workers < 0:
            raise ConfigError("num_workers", f"must be 0 or more, got {self.num_workers}")
