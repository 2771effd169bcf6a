"""Absolute positions, added to token embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flexbert.config.fields import FUNCTION, key
from flexbert.config.model import AbsolutePositionConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.projection import embedding_table
from flexbert.nn.rope_scaling import inverse_frequencies

# Wavelengths of sinusoids run from 2 pi to 2 pi times this (Vaswani et al. 2017).
SINUSOID_BASE = 10_000.0


@register("learned")
@dataclass(frozen=True, kw_only=True)
class LearnedPositionsConfig(AbsolutePositionConfig):
    """A learned vector for each position (Devlin et al. 2019).

    Attributes:
        length: documents are at most this long.
        offset: rows of the table before that of position 0; RoBERTa has 2, which it never reads.
    """

    length: int = key(FUNCTION, above=0, unit="tokens")
    offset: int = key(FUNCTION, default=0, at_least=0)

    @property
    def max_length(self) -> int:
        return self.length

    def build(self, size: int) -> LearnedPositions:
        return LearnedPositions(self, size)


class LearnedPositions(nn.Module):
    def __init__(self, config: LearnedPositionsConfig, size: int) -> None:
        super().__init__()
        self.offset = config.offset
        self.table = embedding_table(config.offset + config.length, size)

    def forward(self, position_ids: Tensor) -> Tensor:
        return self.table(position_ids + self.offset)


@register("sinusoidal")
@dataclass(frozen=True, kw_only=True)
class SinusoidalPositionsConfig(AbsolutePositionConfig):
    """Fixed sinusoids (Vaswani et al. 2017), for documents of any length.

    Attributes:
        learned_scale: multiply them by one learned number that begins at ``size ** -0.5``
            (Hua et al. 2022; Cramming, arXiv 2212.14034).
    """

    learned_scale: bool = key(FUNCTION, default=False)

    def check(self, size: int) -> None:
        if size % 2:
            raise ConfigError("", f"sinusoids need an even size, got {size}")

    def build(self, size: int) -> SinusoidalPositions:
        return SinusoidalPositions(size, self.learned_scale)


class SinusoidalPositions(nn.Module):
    """Sines at even dimensions, cosines at odd ones."""

    def __init__(self, size: int, learned_scale: bool) -> None:
        super().__init__()
        self.size = size
        self.scale = nn.Parameter(torch.empty(())) if learned_scale else None

    def init_parameters(self) -> None:
        """Values that no init scheme decides."""
        if self.scale is not None:
            nn.init.constant_(self.scale, self.size**-0.5)

    def forward(self, position_ids: Tensor) -> Tensor:
        frequencies = inverse_frequencies(SINUSOID_BASE, self.size, position_ids.device)
        angles = position_ids.float()[:, None] * frequencies
        positions = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
        return positions if self.scale is None else self.scale * positions.to(self.scale.dtype)
