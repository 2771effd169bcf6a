"""What training costs, and how well it uses its hardware."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from composer import Callback, Logger, State
from composer.utils import dist

from flexbert.config.recipe import Recipe
from flexbert.devices.peak_flops import measured_peak_flops
from flexbert.nn.flops import ModelCost
from flexbert.train.stage_run import StageRun
from flexbert.train.step_times import StepTimes


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """What updates cost; ``time_shares`` and ``peak_memory`` are this process's.

    Attributes:
        tokens_per_second: real ones of all processes.
        tflops: 10^12 floating-point operations a second of one process.
        mfu: those over its device's peak (model FLOPs utilisation).
        time_shares: of each of :data:`~flexbert.train.step_times.PARTS`.
        padding: the share of row space without tokens.
        peak_memory: bytes: on a GPU the most that tensors took since the last record, else the
            most the process ever held.
    """

    tokens_per_second: float
    tflops: float
    mfu: float
    time_shares: Mapping[str, float]
    padding: float
    peak_memory: int


class SpeedMonitor(Callback):
    """Counts the work of updates, and holds it against their time.

    Work is that of real tokens, in the documents as they are: neither padding nor what an attention
    backend computes beyond a window counts.
    """

    def __init__(self, run: StageRun, cost: ModelCost, device: torch.device) -> None:
        self.run = run
        self.cost = cost
        self.device = device
        self.times = StepTimes(device)
        # Of one process; all have the same kind of device.
        self.peak_flops = peak_flops(run.recipe, device)
        self._flops = 0.0
        self._before = (0, 0)

    def fit_start(self, state: State, logger: Logger) -> None:
        self._before = _tokens_and_rows(state)

    def batch_end(self, state: State, logger: Logger) -> None:
        clock = self.run.clock_before(state)
        mask_rate = self.run.stage.mask_rate(clock.tokens, clock.updates)
        self._flops += self.cost.flops(state.batch["documents"].lengths, mask_rate)

    def take(self, state: State) -> TrainingCost:
        """Sum up the updates since the last call."""
        tokens, rows = _tokens_and_rows(state)
        new_tokens, new_rows = tokens - self._before[0], rows - self._before[1]
        seconds = self.times.total
        flops = self._flops / seconds / dist.get_world_size()
        taken = TrainingCost(
            tokens_per_second=round(new_tokens / seconds, 1),
            tflops=float(f"{flops / 1e12:.4g}"),
            mfu=round(flops / self.peak_flops, 4),
            time_shares={part: round(s / seconds, 4) for part, s in self.times.seconds.items()},
            padding=round(1 - new_tokens / (new_rows * self.run.recipe.data.row_length), 4),
            peak_memory=self._peak_memory(),
        )
        self._before = tokens, rows
        self._flops = 0.0
        self.times.clear()
        return taken

    def _peak_memory(self) -> int:
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_flops(recipe: Recipe, device: torch.device) -> float:
    """Operations a second of one device at best: as the recipe states them, or measured."""
    if recipe.logging.peak_tflops is not None:
        return recipe.logging.peak_tflops * 1e12
    return measured_peak_flops(device, recipe_dtype(recipe))


def recipe_dtype(recipe: Recipe) -> torch.dtype:
    """In which the model's matrix products are taken."""
    return torch.bfloat16 if recipe.precision == "amp_bf16" else torch.float32


def _tokens_and_rows(state: State) -> tuple[int, int]:
    """Of the whole run, on Composer's clock, whose samples are rows."""
    return int(state.timestamp.token.value), int(state.timestamp.sample.value)
