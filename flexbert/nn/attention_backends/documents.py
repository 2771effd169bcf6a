"""Documents of a packed batch in groups that are padded little."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from flexbert.nn.attention_backends.backend import Call


def sees_all(call: Call) -> bool:
    """Whether every query sees its whole document."""
    return call.window is None or call.window // 2 >= call.max_seqlen - 1


def padded_groups(cu_seqlens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The documents in groups of similar length, each padded to its longest.

    Lengths in a group differ by less than an eighth or less than 16 tokens; empty documents are in
    none.

    Returns:
        For each group its tokens ``[G, L]``, and which of them are real ``[G, L]``: where a shorter
        document has ended, its first token stands in.
    """
    starts, lengths = cu_seqlens[:-1], cu_seqlens.diff()
    members = defaultdict(list)
    # One by one, because torch 2.7 has no tolist() within torch.func; on the CPU, to wait once.
    for index, length in enumerate(map(int, lengths.cpu())):
        if length:
            step = max(16, (1 << length.bit_length()) >> 4)
            members[-(-length // step) * step].append(index)
    groups = []
    for indices in members.values():
        documents = torch.tensor(indices, device=cu_seqlens.device)
        slot = torch.arange(int(lengths[documents].max()), device=cu_seqlens.device)
        is_real = slot < lengths[documents, None]
        groups.append((starts[documents, None] + slot * is_real, is_real))
    return groups
