"""Rotary position embeddings (Su et al. 2021), in the half-split form of Hugging Face models.

Dimension ``i`` of the first half of a head is paired with dimension ``i`` of the second half, and
the pair is turned by the angle ``position * theta ** (-2 i / D)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flexbert.config.model import PositionConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.checks import check_positive


@register("rope")
@dataclass(frozen=True, kw_only=True)
class RopeConfig(PositionConfig):
    """Rotary embeddings on the whole head, with a base for each kind of attention."""

    theta: dict[str, float]

    def __post_init__(self) -> None:
        if set(self.theta) != {"global", "local"}:
            raise ConfigError("theta", f"needs the keys global and local, got {sorted(self.theta)}")
        for kind, theta in self.theta.items():
            check_positive(f"theta.{kind}", theta)

    def layer_theta(self, kind: str) -> float:
        return self.theta[kind]

    def build(self, head_dim: int, theta: float) -> Rope:
        if head_dim % 2:
            raise ConfigError(
                "model.attention.num_heads", f"rope needs an even head size, got {head_dim}"
            )
        return Rope(head_dim, theta)


class Rotation(NamedTuple):
    """The cosine and sine of every token's angles, each ``[N, 1, D / 2]``."""

    cos: Tensor
    sin: Tensor


class Rope(nn.Module):
    """Angles of one base. Nothing is kept between calls, so nothing can go stale."""

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta

    def forward(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation at positions ``[N]``, computed in ``dtype``, at least float32."""
        steps = torch.arange(0, self.head_dim, 2, device=position_ids.device).to(dtype)
        frequencies = 1.0 / self.theta ** (steps / self.head_dim)
        # An outer product by broadcasting: autocast would turn a matmul's angles into bfloat16.
        angles = position_ids.to(dtype)[:, None, None] * frequencies
        return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys ``[N, H, D]``; computed in the rotation's precision, returned in x's."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
