"""Rotary position embeddings (Su et al. 2021).

A pair of dimensions of a head is turned by the angle ``position * theta ** (-2 i / R)``, i being
the pair's number among ``R / 2``. In the half-split form (Hugging Face's, GPT-NeoX's) dimension i
is paired with ``i + R / 2``, in the interleaved form (GPT-J's) dimension ``2 i`` with ``2 i + 1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flexbert.config.fields import FUNCTION, key
from flexbert.config.layer_windows import GLOBAL, Window
from flexbert.config.model import PositionConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.device_kind import kind_of
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.rope_scaling import ScalingConfig, inverse_frequencies

# How many are turned at a time on a CPU, so that what lies between the operations stays in cache:
# 128 to 1024 take half as long as 8192 at once (4 heads of 64, one core).
TOKENS_AT_A_TIME = 512
LOCAL = "local"


@register("rope")
@dataclass(frozen=True, kw_only=True)
class RopeConfig(PositionConfig):
    """Rotary embeddings.

    Attributes:
        theta: the base of ``global`` layers, that of ``local`` ones, and that of a window of its
            own, named by its width (``"256"``); as many as there are uses for, null is none.
        fraction: share of the head's dimensions that is turned, from the first one on.
        interleaved: which dimensions form a pair.
        scaling: how to reach further than the lengths trained on.
    """

    theta: dict[str, float | None] = key(FUNCTION, above=0)
    fraction: float = key(FUNCTION, default=1.0, above=0, at_most=1)
    interleaved: bool = key(FUNCTION, default=False)
    scaling: ScalingConfig | None = key(FUNCTION, default=None)

    def layer_theta(self, window: Window) -> float:
        theta = self.theta[self._theta_key(window)]
        assert theta is not None, "checked when the model's config was made"
        return theta

    def check(self, head_dim: int, windows: frozenset[Window]) -> None:
        given = {key for key, theta in self.theta.items() if theta is not None}
        needed = {self._theta_key(window) for window in windows}
        if given != needed:
            raise ConfigError(
                "theta",
                f"there are {' and '.join(map(_layers, sorted(needed)))} layers, and bases for "
                f"{' and '.join(map(_layers, sorted(given))) or 'none'}; null takes one away",
            )
        size = self.rotary_size(head_dim)
        if self.scaling is not None and size <= 2:
            raise ConfigError("scaling", f"needs more than one pair, the head has {size // 2}")
        if size % 2 or size == 0 or size != head_dim * self.fraction:
            raise ConfigError(
                "fraction",
                f"must turn an even number of the head's {head_dim} dimensions, "
                f"{self.fraction} of them are {head_dim * self.fraction:g}",
            )

    def _theta_key(self, window: Window) -> str:
        """Which of the bases is that of a window."""
        if window is None:
            return GLOBAL
        return LOCAL if self.theta.get(str(window)) is None else str(window)

    def rotary_size(self, head_dim: int) -> int:
        """How many dimensions of a head are turned."""
        return round(head_dim * self.fraction)

    def build(self, head_dim: int, theta: float) -> Rope:
        return Rope(self, self.rotary_size(head_dim), theta)


def _layers(key: str) -> str:
    return key if key in (GLOBAL, LOCAL) else f"window {key}"


class Rotation(NamedTuple):
    """The cosine and sine of every token's angles, each ``[N, 1, R / 2]``, and how to pair."""

    cos: Tensor
    sin: Tensor
    interleaved: bool


class Rope(nn.Module):
    """Angles of one base. Nothing is kept between calls, so nothing can go stale."""

    def __init__(self, config: RopeConfig, size: int, theta: float) -> None:
        super().__init__()
        self.size = size
        self.theta = theta
        self.interleaved = config.interleaved
        self.scaling = config.scaling

    def forward(self, packed: PackedBatch) -> Rotation:
        """The rotation of each token, in float32 whatever the model's dtype, as everyone has it."""
        if self.scaling is None:
            frequencies = inverse_frequencies(self.theta, self.size, packed.tokens.device)
            factor = 1.0
        else:
            frequencies = self.scaling.inverse_frequencies(self.theta, self.size, packed)
            factor = self.scaling.attention_factor()
        # An outer product by broadcasting: autocast would turn a matmul's angles into bfloat16.
        angles = packed.position_ids.float()[:, None, None] * frequencies
        return Rotation(angles.cos() * factor, angles.sin() * factor, self.interleaved)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys ``[N, H, D]``; computed in at least float32, returned in x's dtype."""
    if torch.compiler.is_compiling():
        # torch.compile does all of this by itself, and drops the gradient of a function that calls
        # itself in its backward (seen with torch 2.11).
        return _turned(x, *rotation)
    turned: Tensor = _Rotate.apply(x, *rotation)  # type: ignore[no-untyped-call]
    return turned


class _Rotate(torch.autograd.Function):
    """What is turned in the forward is turned back in the backward; only angles are kept."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        if kind_of(x.device) != "cpu" or len(x) <= TOKENS_AT_A_TIME:
            return _turned(x, cos, sin, interleaved)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        tensors = (out, x, cos, sin)
        for parts in zip(*(t.split(TOKENS_AT_A_TIME) for t in tensors), strict=True):
            place, some, its_cos, its_sin = parts
            place.copy_(_turned(some, its_cos, its_sin, interleaved))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, cos, sin, ctx.interleaved = inputs
        ctx.save_for_backward(cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        turned_back = _Rotate.apply(grad, cos, -sin, ctx.interleaved)  # type: ignore[no-untyped-call]
        return turned_back, None, None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    size = 2 * cos.shape[-1]
    # Once, where each product would cast its own.
    wide = x[..., :size].to(torch.promote_types(x.dtype, cos.dtype))
    if interleaved:
        first, second = wide[..., ::2], wide[..., 1::2]
    else:
        first, second = wide.chunk(2, dim=-1)
    pair = (first * cos - second * sin, second * cos + first * sin)
    result = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
    result = result.to(x.dtype)
    return torch.cat((result, x[..., size:]), dim=-1) if size < x.shape[-1] else result
