"""Documents of a packed batch in groups that are padded little."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import Call


def sees_all(call: Call) -> bool:
    """Whether every query sees its whole document."""
    return call.window is None or call.window // 2 >= call.max_seqlen - 1


class _Read(NamedTuple):
    """What a tensor held; kept with the tensor, so that no other takes its place in memory."""

    tensor: Tensor
    version: int
    numbers: tuple[int, ...]

    def is_of(self, tensor: Tensor) -> bool:
        mine = self.tensor
        return (
            mine.data_ptr() == tensor.data_ptr()
            and mine.shape == tensor.shape
            and mine.dtype == tensor.dtype
            and mine.device == tensor.device
            and self.version == tensor._version
        )


_last_read: _Read | None = None


def read_once(cu_seqlens: Tensor) -> tuple[int, ...]:
    """Its numbers. A GPU is waited for once in a batch, and not by every layer in both directions.

    All of a batch's layers have one tensor. One that is written again has another version.
    """
    global _last_read
    last = _last_read
    if last is not None and not cu_seqlens.is_inference() and last.is_of(cu_seqlens):
        return last.numbers
    # One by one, because torch 2.7 has no tolist() within torch.func.
    numbers = tuple(map(int, cu_seqlens.cpu()))
    if not cu_seqlens.is_inference():  # those have no version
        _last_read = _Read(cu_seqlens, cu_seqlens._version, numbers)
    return numbers


def padded_groups(cu_seqlens: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """The documents in groups of similar length, each padded to its longest.

    Lengths in a group differ by less than an eighth or less than 16 tokens; empty documents are in
    none.

    Returns:
        For each group, on the CPU, its tokens ``[G, L]``, and which of them are real ``[G, L]``:
        where a shorter document has ended, its first token stands in.
    """
    members = defaultdict(list)
    for start, end in itertools.pairwise(cu_seqlens):
        if length := end - start:
            step = max(16, (1 << length.bit_length()) >> 4)
            members[-(-length // step) * step].append((start, length))
    groups = []
    for documents in members.values():
        starts, lengths = torch.tensor(documents).T[:, :, None]
        slot = torch.arange(max(length for _, length in documents))
        is_real = slot < lengths
        groups.append((starts + slot * is_real, is_real))
    return groups
