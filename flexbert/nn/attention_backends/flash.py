"""What the three backends with FlashAttention kernels share."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flexbert.errors import first_line
from flexbert.nn.attention_backends.backend import Limit

DTYPES = (torch.bfloat16, torch.float16)
# Checked in csrc/flash_attn/flash_api.cpp and in hopper/flash_api.cpp.
LARGEST_HEAD = Limit("has no heads larger than 256", above_head_dim=256)


def window_size(window: int | None) -> tuple[int, int]:
    """How many keys before and after its own a query sees; -1 for all."""
    reach = -1 if window is None else window // 2
    return reach, reach


def dense_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The kernels read the last dimension as contiguous."""
    return tuple(x if x.stride(-1) == 1 else x.contiguous() for x in tensors)


def load(module: str, find: Callable[[Any], Any], package: str) -> tuple[Any, str | None]:
    """What ``find`` takes from an optional module, and why there is nothing if so.

    A package that was built for another torch fails in many ways when imported, and must not take
    everything that imports this down with it.
    """
    try:
        return find(importlib.import_module(module)), None
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            return None, f"needs the package {package}, which is not installed"
        return None, f"finds the package {package}, but cannot use it: {first_line(error)}"


def gpu_problem(device: torch.device, majors: range, generation: str) -> str | None:
    """Why a device has none of these major compute capabilities, None if it has one."""
    if device.type != "cuda":
        return f"needs a CUDA device, this is {device.type}"
    major, minor = torch.cuda.get_device_capability(device)
    if major not in majors:
        return f"needs {generation}, this is of compute capability {major}.{minor}"
    return None


AMPERE_OR_NEWER = (range(8, 1000), "a GPU of compute capability 8.0 (Ampere) or newer")
HOPPER = (range(9, 10), "a Hopper GPU (compute capability 9.0)")
