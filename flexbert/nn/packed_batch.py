"""Packed batches: sequences laid end to end, and the way there and back from padded ones.

Shape legend of this package: B batch, T padded length, N total tokens, S sequences, H heads,
D head dim, C hidden, V vocabulary, M masked positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end, without padding between them.

    Sequence ``s`` holds the tokens from ``cu_seqlens[s]`` up to, not including,
    ``cu_seqlens[s + 1]``. A sequence may be empty; a batch of fixed capacity repeats N at the end.

    Args:
        tokens: token ids ``[N]``, int64.
        cu_seqlens: where each sequence starts, and N at the end: ``[S + 1]``, int32.
        max_seqlen: no sequence is longer; may be larger than the longest.
        position_ids: each token's position within its sequence ``[N]``, int64.
        token_types: each token's type ``[N]``, int64; None when all are of the first.
    """

    tokens: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    position_ids: Tensor
    token_types: Tensor | None = None


def unpad(
    input_ids: Tensor, attention_mask: Tensor, token_types: Tensor | None = None
) -> tuple[PackedBatch, Tensor]:
    """The real tokens of a padded batch, and where they stood.

    Padding may stand on either side; positions count a row's real tokens from 0, wherever they
    are. A row without any becomes an empty sequence.

    Args:
        input_ids: token ids ``[B, T]``.
        attention_mask: nonzero at real tokens ``[B, T]``.
        token_types: each token's type ``[B, T]``.

    Returns:
        The packed batch of B sequences, and its tokens' indices into the flattened ``[B * T]``.
    """
    assert input_ids.shape == attention_mask.shape
    is_real = attention_mask.bool()
    indices = is_real.flatten().nonzero().flatten()
    lengths = is_real.sum(dim=1)
    packed = PackedBatch(
        tokens=input_ids.flatten()[indices],
        cu_seqlens=F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32),
        max_seqlen=int(lengths.max()),
        position_ids=(is_real.cumsum(dim=1) - 1)[is_real],
        token_types=None if token_types is None else token_types.flatten()[indices],
    )
    return packed, indices


def pad(values: Tensor, indices: Tensor, batch_size: int, padded_length: int) -> Tensor:
    """Put packed values ``[N, ...]`` back where :func:`unpad` took them; zero elsewhere.

    Returns:
        ``[B, T, ...]``
    """
    flat = values.new_zeros(batch_size * padded_length, *values.shape[1:])
    return flat.index_copy(0, indices, values).unflatten(0, (batch_size, padded_length))


def sequence_ids(cu_seqlens: Tensor, num_tokens: int) -> Tensor:
    """For each token ``[N]`` the index of the sequence that holds it."""
    positions = torch.arange(num_tokens, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    return torch.bucketize(positions, cu_seqlens[1:], right=True)
