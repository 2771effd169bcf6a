"""What a call of attention asks for, and what a backend is.

Shape legend: N total tokens, S sequences, H heads, Hkv heads of keys and values, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Feature = Literal["windowed", "grouped", "alibi", "dropout", "deterministic"]

# Every feature, in words.
FEATURES: dict[Feature, str] = {
    "windowed": "local window",
    "grouped": "grouped queries",
    "alibi": "ALiBi",
    "dropout": "dropout",
    "deterministic": "deterministic mode",
}


@dataclass(frozen=True)
class Request:
    """What one call of attention asks of its backend.

    Args:
        device, dtype, head_dim: of the queries, keys and values.
        windowed: queries see only near keys.
        grouped: fewer heads of keys than of queries.
        alibi: a bias that is linear in the distance.
        dropout: on attention probabilities.
        deterministic: the same bits on every run, in the backward too.
    """

    device: torch.device
    dtype: torch.dtype
    head_dim: int
    windowed: bool = False
    grouped: bool = False
    alibi: bool = False
    dropout: bool = False
    deterministic: bool = False


@dataclass(frozen=True)
class Call:
    """What goes with the queries, keys and values of one call.

    Args:
        cu_seqlens, max_seqlen: as in :class:`flexbert.nn.packed_batch.PackedBatch`.
        window: total width, even: a query sees ``|q - k| <= window // 2``; None sees all.
        scale: factor on the scores before the softmax.
        alibi_slopes: ``[H]``, float32: ``-slope * |q - k|`` is added to the scaled scores.
        dropout: probability that an attention probability becomes 0; the others grow by
            ``1 / (1 - dropout)``. Draws from torch's default generators.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    window: int | None
    scale: float
    alibi_slopes: Tensor | None = None
    dropout: float = 0.0


class AttendFunction(Protocol):
    """Bidirectional attention within each sequence of a packed batch.

    Args:
        q: queries ``[N, H, D]``.
        k, v: keys and values ``[N, Hkv, D]``; H is a multiple of Hkv.

    Returns:
        ``[N, H, D]`` in q's dtype.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor: ...


@dataclass(frozen=True)
class Limit:
    """Calls that a backend cannot serve on any machine.

    Args:
        features: those that ask for all of these,
        above_head_dim: with heads larger than this.
        reason: why, as a clause whose subject is the backend.
    """

    reason: str
    features: tuple[Feature, ...] = ()
    above_head_dim: int = 0

    def forbids(self, request: Request) -> bool:
        return request.head_dim > self.above_head_dim and all(
            getattr(request, feature) for feature in self.features
        )


@dataclass(frozen=True)
class Backend:
    """One implementation of attention.

    Args:
        name: as in a recipe.
        attend: what it computes; torch.compile sees it without a graph break.
        devices: those it needs, in words.
        unavailable: why it cannot run on a device here, None if it can.
        dtypes: those it computes in; None for any floating one.
        head_dim_multiple: what every head size is a multiple of.
        limits: what it lacks everywhere.
    """

    name: str
    attend: AttendFunction
    devices: str
    unavailable: Callable[[torch.device], str | None]
    dtypes: tuple[torch.dtype, ...] | None = None
    head_dim_multiple: int = 1
    limits: tuple[Limit, ...] = ()

    def why_not(self, request: Request) -> str | None:
        """Why it cannot serve a call, as a clause whose subject is the backend; None if it can."""
        problem = self.unavailable(request.device)
        if problem is not None:
            return problem
        if self.dtypes is not None and request.dtype not in self.dtypes:
            known = " or ".join(_plain(dtype) for dtype in self.dtypes)
            asked = _plain(request.dtype)
            return f"computes in {known}, not in {asked}: set precision to amp_bf16"
        if request.head_dim % self.head_dim_multiple:
            return (
                f"needs a head size that is a multiple of {self.head_dim_multiple}, "
                f"this is {request.head_dim}"
            )
        return next((limit.reason for limit in self.limits if limit.forbids(request)), None)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
