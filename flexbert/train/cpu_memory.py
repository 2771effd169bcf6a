"""Memory of a process that trains on the CPU."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 4 << 20


def return_freed_tensors() -> None:
    """Have the C library give large blocks back to the system as soon as they are freed.

    glibc raises its own threshold to 32 MiB when it sees large blocks come and go; activations
    then lie on the heap and fragment it. Two updates of an 8-layer ModernBERT-large on a row of
    8192 tokens peaked at 13.1 GB so, and at 7.5 GB with the threshold held, in the same time. Does
    nothing where the C library has no ``mallopt``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
