"""Rotary embeddings at lengths beyond those trained on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from flexbert.config.fields import FUNCTION, key
from flexbert.config.registry import Component, register
from flexbert.errors import ConfigError
from flexbert.nn.packed_batch import PackedBatch, sequence_ids


def inverse_frequencies(
    theta: float | Tensor, size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Angle per position of each pair: ``theta ** (-2 i / R)``, float32, ``[..., R / 2]``.

    Args:
        theta: a number, or one for each token ``[N, 1, 1]``.
        size: R, the dimensions that are turned.
    """
    steps = torch.arange(0, size, 2, device=device).float()
    return 1.0 / theta ** (steps / size)


class ScalingConfig(Component, ABC, family="rope_scaling"):
    """What is done to the angles of one base."""

    @abstractmethod
    def inverse_frequencies(self, theta: float, size: int, packed: PackedBatch) -> Tensor:
        """As :func:`inverse_frequencies`; ``[R / 2]``, or ``[N, 1, R / 2]`` if they differ by
        token."""

    def attention_factor(self) -> float:
        """What queries and keys are multiplied by."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class _FactorConfig(ScalingConfig):
    """A scaling with a factor.

    Attributes:
        factor: how many times further to reach.
    """

    factor: float = key(FUNCTION, at_least=1)


@register("linear")
@dataclass(frozen=True, kw_only=True)
class LinearScaling(_FactorConfig):
    """Position interpolation (Chen et al. 2023): positions divided by ``factor``."""

    def inverse_frequencies(self, theta: float, size: int, packed: PackedBatch) -> Tensor:
        return inverse_frequencies(theta, size, packed.tokens.device) / self.factor


@register("ntk")
@dataclass(frozen=True, kw_only=True)
class NTKScaling(_FactorConfig):
    """NTK-aware scaling: the base grows so that the slowest pair slows ``factor`` times, the
    fastest not at all: ``theta * factor ** (R / (R - 2))`` (YaRN, arXiv 2309.00071, section 3.1).
    """

    def inverse_frequencies(self, theta: float, size: int, packed: PackedBatch) -> Tensor:
        scaled = theta * self.factor ** (size / (size - 2))
        return inverse_frequencies(scaled, size, packed.tokens.device)


@register("ntk_all_pairs")
@dataclass(frozen=True, kw_only=True)
class NTKAllPairsScaling(_FactorConfig):
    """NTK scaling as GTE's code has it (mGTE, arXiv 2407.19669): pair i slows by
    ``factor ** ((2 i + 2) / R)``, the slowest by ``factor`` and the fastest a little too."""

    def inverse_frequencies(self, theta: float, size: int, packed: PackedBatch) -> Tensor:
        slower = inverse_frequencies(theta * self.factor, size, packed.tokens.device)
        return slower / self.factor ** (2 / size)


@register("dynamic_ntk")
@dataclass(frozen=True, kw_only=True)
class DynamicNTKScaling(_FactorConfig):
    """NTK scaling by each document's own length n (arXiv 2309.00071, section 3.3).

    A document of at most ``original_length`` L is left as it is, a longer one is scaled by
    ``factor * n / L - (factor - 1)``. Other implementations take the longest document of a batch
    for n, so that there a document's logits depend on its neighbours.

    Attributes:
        original_length: the longest document trained on.
    """

    original_length: int = key(FUNCTION, above=0, unit="tokens")

    def inverse_frequencies(self, theta: float, size: int, packed: PackedBatch) -> Tensor:
        document = sequence_ids(packed.cu_seqlens, len(packed.tokens))
        length = packed.cu_seqlens.diff()[document].clamp(min=self.original_length)
        growth = self.factor * length / self.original_length - (self.factor - 1)
        scaled = theta * growth ** (size / (size - 2))
        return inverse_frequencies(scaled[:, None, None], size, packed.tokens.device)


@register("yarn")
@dataclass(frozen=True, kw_only=True)
class YarnScaling(_FactorConfig):
    """YaRN (Peng et al. 2023, arXiv 2309.00071, section 3.4).

    Pairs that turn more than ``beta_fast`` times over the original length keep their angle, those
    that turn less than ``beta_slow`` times are interpolated, a ramp lies between; queries and keys
    are multiplied by ``0.1 ln(factor) + 1``.

    Attributes:
        original_length: the longest document trained on.
        beta_fast: pairs that turn more often keep their angle.
        beta_slow: pairs that turn less often are interpolated.
    """

    original_length: int = key(FUNCTION, above=0, unit="tokens")
    beta_fast: float = key(FUNCTION, default=32.0, above=0, unit="turns")
    beta_slow: float = key(FUNCTION, default=1.0, above=0, unit="turns")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta_slow >= self.beta_fast:
            raise ConfigError(
                "beta_slow", f"must be below beta_fast {self.beta_fast:g}, got {self.beta_slow:g}"
            )

    def attention_factor(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0

    def inverse_frequencies(self, theta: float, size: int, packed: PackedBatch) -> Tensor:
        def pair_that_turns(times: float) -> float:
            turn = self.original_length / (times * 2 * math.pi)
            return size * math.log(turn) / (2 * math.log(theta))

        low = max(math.floor(pair_that_turns(self.beta_fast)), 0)
        high = min(math.ceil(pair_that_turns(self.beta_slow)), size - 1)
        device = packed.tokens.device
        pair = torch.arange(size // 2, device=device).float()
        ramp = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)
        kept = inverse_frequencies(theta, size, device)
        return kept / self.factor * ramp + kept * (1 - ramp)
