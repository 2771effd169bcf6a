"""Errors that speak of the device and not of what ran on it, however they are wrapped."""

from __future__ import annotations

from collections.abc import Iterator

import torch

# How torch's allocator on CPUs, CUDA itself and its libraries say it, in plain RuntimeErrors.
_SHORT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_CUDA_FAILED = "CUDA error"


def out_of_memory(error: BaseException) -> BaseException | None:
    """The error for want of memory that this one is, or was raised for; None if it is neither.

    torch.compile wraps what a graph raises.
    """
    return next(filter(_is_short_of_memory, _chain(error)), None)


def device_failure(error: BaseException) -> BaseException | None:
    """As :func:`out_of_memory`, and CUDA's other errors, after most of which nothing works."""
    return next((e for e in _chain(error) if _is_short_of_memory(e) or _is_of_cuda(e)), None)


def _is_short_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SHORT_OF_MEMORY)


def _is_of_cuda(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _CUDA_FAILED in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised for, innermost first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        # Where torch.compile's errors keep what they wrap.
        inner = getattr(error, "inner_exception", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return reversed(seen)
