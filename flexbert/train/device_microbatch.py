"""What is made to suit the device before a stage: the size of micro-batches, and a CPU's memory."""

from __future__ import annotations

import torch
from composer.devices import Device
from composer.utils import dist

from flexbert.nn.masked_lm import MaskedLM
from flexbert.plan.memory import activations_of, memory
from flexbert.plan.microbatch import fitting_rows, largest_microbatch
from flexbert.schedule.stages import Stage
from flexbert.train.cpu_memory import machine_bytes, suit_allocator

# Tokens of a micro-batch on a CPU, where more are no faster: rows of 8192 went 9 percent faster
# than rows of 2048, for which the gradient of the decoder's matrix is added up more often.
CPU_TOKENS = 8192


def suit_device(stage: Stage, device: Device) -> int:
    """Rows of a micro-batch: the recipe's, else as many as suit the device, the same everywhere.

    On a CPU the C library's allocator is set up for them too.
    """
    recipe = stage.recipe
    rows = recipe.batch.microbatch_rows
    on_cpu = device.name == "cpu"
    if not on_cpu and rows is not None:
        return rows
    (activations,) = activations_of([recipe])
    with torch.device("meta"):
        model = MaskedLM(recipe.model)
    processes = dist.get_world_size()
    available = _cpu_bytes() if on_cpu else _gpu_bytes()
    if rows is None:
        most = max(1, CPU_TOKENS // recipe.data.row_length) if on_cpu else None
        rows = fitting_rows(stage, model, activations, processes, available, most)
        rows = _least(rows, device)
    if on_cpu:
        largest = largest_microbatch(stage, processes, rows)
        needed = memory(recipe, model, activations, processes, largest).total
        suit_allocator(needed, available)
    return rows


def _cpu_bytes() -> int:
    """This process's share of the machine's memory."""
    return machine_bytes() // dist.get_local_world_size()


def _gpu_bytes() -> int:
    """Memory of this process's GPU; all of it, so that a run that continues finds as much."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


def _least(rows: int, device: Device) -> int:
    """Of all processes: their devices may differ, and their micro-batches must not."""
    least = device.tensor_to_device(torch.tensor(rows))
    dist.all_reduce(least, reduce_operation="MIN")
    return int(least)
