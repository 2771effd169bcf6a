"""What an attention backend is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class AttendFunction(Protocol):
    """Bidirectional attention within each sequence of a ragged batch.

    Args:
        q: queries ``[N, H, D]``.
        k, v: keys and values ``[N, Hkv, D]``; H is a multiple of Hkv.
        cu_seqlens, max_seqlen: as in :class:`flexbert.nn.ragged.RaggedBatch`.
        window: total width, even: a query sees ``|q - k| <= window // 2``; None sees all.
        scale: factor on the scores before the softmax.

    Returns:
        ``[N, H, D]`` in q's dtype.
    """

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        window: int | None,
        scale: float,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Backend:
    """One implementation of attention.

    Args:
        name: as in a recipe.
        attend: what it computes; a single call to torch.compile.
        why_not: why it cannot serve this device, dtype and head size, None if it can.
    """

    name: str
    attend: AttendFunction
    why_not: Callable[[torch.device, torch.dtype, int], str | None]
