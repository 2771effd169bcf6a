"""One run, launched and killed as often as a test likes, and what it computed in the end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from tests.conftest import read_records
from tests.integration.faults import Fault
from tests.integration.launcher import Launcher, Run, read_batches

# What a record holds that no clock of the machine decides.
COMPUTED = (
    *("event", "stage", "step", "tokens", "stage_tokens", "loss", "skipped_updates"),
    *("lr", "weight_decay", "mask_rate", "batch_size", "grad_norm", "update_rms"),
    *("eval_loss", "eval_accuracy"),
)


@dataclass
class Outcome:
    """Everything that a run computed."""

    records: list[tuple[object, ...]]
    weights: dict[str, torch.Tensor]
    batches: dict[int, dict[int, set[str]]]


class KilledRun:
    """Launches of one run, all in ``folder``, where it leaves everything."""

    def __init__(
        self, launcher: Launcher, recipe: Path, settings: Sequence[str], folder: Path
    ) -> None:
        self.launcher = launcher
        self.recipe = recipe
        self.batches = folder / "batches"
        self.batches.mkdir(parents=True)
        self.orders = folder / "orders"
        self.run_folder = folder / "run"
        self.settings = [
            *settings,
            f"runs_folder={folder}",
            "run_name=run",
            f"data.cache={self.orders}",
        ]

    def launch(
        self,
        due: Callable[[], bool] = lambda: False,
        signum: int = signal.SIGKILL,
        num_processes: int = 1,
        num_workers: int = 0,
    ) -> int:
        return self.start(num_processes, num_workers).signal_when(due, signum)

    def start(
        self,
        num_processes: int,
        num_workers: int,
        *,
        own: Mapping[int, Sequence[str]] | None = None,
        faults: Sequence[Fault] = (),
    ) -> Run:
        """See :meth:`~tests.integration.launcher.Launcher.start`."""
        overrides = [*self.settings, f"data.num_workers={num_workers}"]
        return self.launcher.start(
            self.recipe, overrides, num_processes, self.batches, own=own, faults=faults
        )

    def step_begun(self, step: int) -> bool:
        return any(f'"update": {step},' in f.read_text() for f in self._batch_files())

    def saving(self) -> bool:
        """A checkpoint is being written."""
        return bool(list((self.run_folder / "checkpoints").glob(".step-*.tmp")))

    def building(self) -> bool:
        """An order is being built."""
        return bool(list(self.orders.glob(".*.tmp")))

    def _batch_files(self) -> list[Path]:
        return list(self.batches.glob("*.jsonl"))

    def outcome(self) -> Outcome:
        records = [tuple(r.get(key) for key in COMPUTED) for r in read_records(self.run_folder)]
        last = read_checkpoint(list_checkpoints(self.run_folder / "checkpoints")[-1])
        return Outcome(records, last.model, read_batches(self.batches))


def assert_same_weights(
    weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    """Bit for bit."""
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(weights[name], weight), name
