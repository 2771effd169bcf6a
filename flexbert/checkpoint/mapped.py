"""Copies of tensors that are mapped from a file, without leaving the file's pages in memory."""

from __future__ import annotations

import ctypes
import mmap

import torch
from torch import Tensor

# Linux 5.4 and later: take pages out of memory. What is in them stays what it is, so that asking
# for it is right whatever memory a tensor has; elsewhere the kernel refuses and nothing happens.
_MADV_PAGEOUT = 21


@torch.no_grad()
def copy_mapped(source: Tensor, target: Tensor | None = None) -> Tensor:
    """A copy of a mapped tensor in memory of its own, or in ``target``.

    Otherwise what was read of the file would count as the process's memory until the last of its
    tensors is gone: a checkpoint is three times the size of the weights.
    """
    copy = source.clone() if target is None else target.copy_(source)
    if source.device.type == "cpu":
        _page_out(source)
    return copy


def _page_out(tensor: Tensor) -> None:
    begin = tensor.untyped_storage().data_ptr()
    end = begin + tensor.untyped_storage().nbytes()
    # Whole pages alone: their neighbours belong to other tensors.
    first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    last = end // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_PAGEOUT)
