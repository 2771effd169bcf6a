"""What a run needs of its device, before it trains; and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from composer.devices import Device
from composer.utils import dist, get_device

from flexbert.config.recipe import Recipe
from flexbert.devices.device_errors import out_of_memory
from flexbert.devices.float32 import forbid_tf32
from flexbert.devices.nvidia import ON_THE_CPU, nvidia_problem
from flexbert.errors import UserError, first_line
from flexbert.optim.stable_adamw import StableAdamW, why_without_triton

# The compute capability from which on GPUs have them (Ampere).
BFLOAT16_UNITS = (8, 0)


def training_device() -> Device:
    """The device of this process, on which float32 is float32.

    Composer's own ``get_device`` turns TF32 on each time, and takes the CPU where CUDA fails.

    Raises:
        UserError: if there is a GPU that cannot be used, or a process has none of its own.
    """
    problem = nvidia_problem()
    if problem is not None:
        raise UserError(f"{problem}; {ON_THE_CPU}")
    processes = dist.get_local_world_size()
    if torch.cuda.is_available() and processes > (gpus := torch.cuda.device_count()):
        raise UserError(
            f"{processes} processes on this machine, and GPUs for {gpus}; start it with -n {gpus}"
        )
    device = get_device(None)
    forbid_tf32()
    return device


def training_torch_device() -> torch.device:
    """:func:`training_device`, as torch names it."""
    return training_device().tensor_to_device(torch.empty(0)).device


def device_notes(recipe: Recipe, device: torch.device) -> list[str]:
    """What a stage computes with, where the device decides or could be thought to."""
    products = "bfloat16" if recipe.precision == "amp_bf16" else "float32"
    notes = [f"precision: {recipe.precision}: matrix products in {products}; TF32 is off"]
    if device.type != "cuda":
        return notes
    if recipe.precision == "amp_bf16":
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) < BFLOAT16_UNITS:
            notes.append(
                f"warning: a GPU of compute capability {major}.{minor} has no units for bfloat16, "
                "and imitates its products slowly; precision: fp32 may be faster"
            )
    if isinstance(recipe.optimizer, StableAdamW):
        reason = why_without_triton(device)
        if reason is not None:
            notes.append(f"stable_adamw: updates by torch's operations, which are slower: {reason}")
    return notes


@contextmanager
def memory_advice() -> Iterator[None]:
    """Inside, an error for want of memory becomes one line that says what to change.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except Exception as error:
        short = out_of_memory(error)
        if short is None:
            raise
        line = (
            f"out of memory ({first_line(short)}): set a smaller batch.microbatch_rows, or where "
            "it is 1 a smaller data.row_length"
        )
        raise UserError(line) from error
