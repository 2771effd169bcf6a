"""In which groups and order the matmul backend takes documents that are seen whole.

A vector is one head of one token, number ``token * heads + head``. The vectors of a batch are
gathered once, group after group, so that a group's products read and write slices; one more gather
puts the results back. Every layer and both directions of a batch have the same plan.

Shape legend: N tokens, H heads, Hkv heads of keys and values, P vectors with padding, D head dim;
B is documents of a group times Hkv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from flexbert.nn.attention_backends.cpu.products import hiding_bias
from flexbert.nn.attention_backends.documents import padded_groups, read_once

# A tile of long documents has more scores than asked for rather than fewer queries, over which the
# sums of the keys' gradients are spread: 16, 64 and 256 queries took 23.9, 8.1 and 5.2 s for one
# document of 8192 tokens (forward and backward, 12 heads of 64, 2 cores).
MIN_QUERIES = 256


@dataclass(frozen=True)
class Order:
    """In which order the vectors of queries, or of keys, are taken.

    Attributes:
        numbers: ``[P]``; where a shorter document has ended, its first token stands in.
        places: ``[N * H]``, where each vector stands among them.
        padding: those of the P that stand in.
    """

    numbers: Tensor
    places: Tensor
    padding: Tensor

    def gathered(self, x: Tensor) -> Tensor:
        """``[N, H, D]`` to ``[P, D]``."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self.numbers)

    def put_back(self, x: Tensor, like: Tensor) -> Tensor:
        """``[P, D]`` to ``[N, H, D]``, the shape of ``like``."""
        return x.index_select(0, self.places).view(like.shape)


@dataclass(frozen=True)
class Group:
    """Documents that are computed together.

    Attributes:
        size: B.
        queries: of their vectors, a tile's at a time; heads that share keys behind each other.
        keys: of their vectors.
        bias: ``[B, 1, K]``, hides keys that are no token; None if all are.
    """

    size: int
    queries: tuple[slice, ...]
    keys: slice
    bias: Tensor | None

    def part(self, x: Tensor, vectors: slice) -> Tensor:
        """Of ``[P, D]`` some of this group's vectors, ``[B, T, D]``."""
        return x[vectors].view(self.size, -1, x.shape[-1])


@dataclass(frozen=True)
class GlobalPlan:
    queries: Order
    keys: Order
    groups: tuple[Group, ...]


def global_plan(q: Tensor, k: Tensor, cu_seqlens: Tensor, tile: int) -> GlobalPlan:
    """For queries ``[N, H, D]`` and keys ``[N, Hkv, D]``.

    Args:
        tile: scores computed at a time.
    """
    return _plan(read_once(cu_seqlens), q.shape[1], k.shape[1], q.dtype, tile)


# Of the present batch, and of the one before it where two take turns.
@lru_cache(maxsize=2)
def _plan(
    cu_seqlens: tuple[int, ...], num_heads: int, num_kv_heads: int, dtype: torch.dtype, tile: int
) -> GlobalPlan:
    queries, keys = _Vectors(num_heads, num_kv_heads), _Vectors(num_kv_heads, num_kv_heads)
    groups = []
    for tokens, is_real in _document_rows(cu_seqlens, num_heads, tile):
        step = max(MIN_QUERIES, tile // (num_heads * tokens.numel()))
        some = zip(tokens.split(step, dim=1), is_real.split(step, dim=1), strict=True)
        bias = None
        if not is_real.all():
            bias = hiding_bias(~is_real, dtype).repeat_interleave(num_kv_heads, 0)[:, None]
        groups.append(
            Group(
                size=len(tokens) * num_kv_heads,
                queries=tuple(queries.add(*each) for each in some),
                keys=keys.add(tokens, is_real),
                bias=bias,
            )
        )
    return GlobalPlan(queries.order(), keys.order(), tuple(groups))


def _document_rows(
    cu_seqlens: tuple[int, ...], num_heads: int, tile: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens of some documents ``[R, K]``, and which of them are real."""
    for tokens, is_real in padded_groups(cu_seqlens):
        length = tokens.shape[1]
        step = max(1, tile // (num_heads * length * length))
        for some, are_real in zip(tokens.split(step), is_real.split(step), strict=True):
            longest = int(are_real.sum(1).max())
            yield some[:, :longest], are_real[:, :longest]


class _Vectors:
    """Collects an :class:`Order`."""

    def __init__(self, num_heads: int, num_kv_heads: int) -> None:
        self.heads = torch.arange(num_heads).view(num_kv_heads, -1, 1)
        self.numbers: list[Tensor] = []
        self.is_real: list[Tensor] = []
        self.count = 0

    def add(self, tokens: Tensor, is_real: Tensor) -> slice:
        """The vectors of tokens ``[R, T]``, as ``[R, Hkv, H / Hkv, T]``."""
        numbers = tokens[:, None, None] * self.heads.numel() + self.heads
        self.numbers.append(numbers.flatten())
        self.is_real.append(is_real[:, None, None].expand(numbers.shape).flatten())
        begin, self.count = self.count, self.count + numbers.numel()
        return slice(begin, self.count)

    def order(self) -> Order:
        numbers, is_real = torch.cat(self.numbers), torch.cat(self.is_real)
        real = is_real.nonzero().squeeze(1)
        places = torch.empty_like(real).index_copy_(0, numbers[real], real)
        return Order(numbers, places, (~is_real).nonzero().squeeze(1))
