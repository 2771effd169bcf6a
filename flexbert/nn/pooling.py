"""One vector for each sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from flexbert.config.model import Pooling
from flexbert.nn.packed_batch import PackedBatch, sequence_ids


def pool(hidden: Tensor, packed: PackedBatch, how: Pooling) -> Tensor:
    """Hidden states ``[N, C]`` to ``[S, C]``: the first token's, their mean, or their maximum.

    An empty sequence gives zeros. Sums are taken in at least float32.
    """
    starts, lengths = packed.cu_seqlens[:-1].long(), packed.cu_seqlens.diff()
    is_empty = (lengths == 0)[:, None]
    if how == "cls":
        first = hidden[starts.clamp(max=len(hidden) - 1)]
        return first.masked_fill(is_empty, 0)
    rows = sequence_ids(packed.cu_seqlens, len(hidden))[:, None].expand_as(hidden)
    shape = (len(lengths), hidden.shape[1])
    if how == "max":
        lowest = hidden.new_full(shape, -torch.inf)
        return lowest.scatter_reduce(0, rows, hidden, "amax").masked_fill(is_empty, 0)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    sums = hidden.new_zeros(shape, dtype=dtype).scatter_add(0, rows, hidden.to(dtype))
    return (sums / lengths.clamp(min=1)[:, None]).to(hidden.dtype)
