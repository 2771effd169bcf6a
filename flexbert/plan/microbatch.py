"""How many rows a micro-batch has where the recipe leaves that open."""

from __future__ import annotations

from bisect import bisect_right

from flexbert.data.packing.loader import RankRows
from flexbert.nn.masked_lm import MaskedLM
from flexbert.plan.memory import Activations, memory
from flexbert.schedule.stages import Stage

# Of a device's memory what is counted may fill; the rest is for what is not: CUDA's context, the
# workspaces of kernels, and what lies between an allocator's blocks.
SHARE = 0.8


def fitting_rows(
    stage: Stage,
    model: MaskedLM,
    activations: Activations,
    processes: int,
    device_bytes: int,
    most: int | None = None,
) -> int:
    """As many rows as fit, or up to half as many where that leaves fewer rows idle; at least one.

    Args:
        model: of the stage's recipe, on any device.
        processes: that share a batch.
        device_bytes: memory of one process's device.
        most: no more than this, if more fit.
    """

    def needed(rows: int) -> int:
        return memory(stage.recipe, model, activations, processes, rows).total

    def computed(rows: int) -> int:
        num_microbatches, size = RankRows(0, processes, rows).split(_largest_batch(stage))
        return num_microbatches * size

    limit = largest_microbatch(stage, processes, most)
    fits = max(1, bisect_right(range(1, limit + 1), SHARE * device_bytes, key=needed))
    return min(range(fits, fits // 2, -1), key=computed)


def largest_microbatch(stage: Stage, processes: int, rows: int | None) -> int:
    """Rows of the largest micro-batch that there is when this many are allowed."""
    share, _ = RankRows(0, processes, 1).split(_largest_batch(stage))
    return share if rows is None else min(rows, share)


def _largest_batch(stage: Stage) -> int:
    return stage.batches.rows(stage.batches.warmup_updates)
