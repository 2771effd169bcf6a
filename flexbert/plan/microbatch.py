"""How many rows a micro-batch has where the recipe leaves that open."""

from __future__ import annotations

from bisect import bisect_right

from flexbert.nn.masked_lm import MaskedLM
from flexbert.plan.memory import Activations, memory
from flexbert.recipe.stages import Stage

# Of a device's memory what is counted may fill; the rest is for what is not: CUDA's context, the
# workspaces of kernels, and what lies between an allocator's blocks.
SHARE = 0.8


def fitting_rows(
    stage: Stage, model: MaskedLM, activations: Activations, processes: int, device_bytes: int
) -> int:
    """As many rows as a process makes of the stage's largest batch, or as fit; at least one.

    Args:
        model: of the stage's recipe, on any device.
        processes: that share a batch.
        device_bytes: memory of one process's device.
    """

    def needed(rows: int) -> int:
        return memory(stage.recipe, model, activations, processes, rows)["total"]

    batches = stage.batches
    most = -(-batches.rows(batches.warmup_updates) // processes)
    return max(1, bisect_right(range(1, most + 1), SHARE * device_bytes, key=needed))
