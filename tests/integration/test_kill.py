"""Runs that are killed, stopped and moved continue as if nothing had been."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from flexbert.checkpoint.file import read_checkpoint
from flexbert.checkpoint.names import list_checkpoints
from tests.conftest import TINY_RECIPE, Overrides, read_records
from tests.integration.launcher import Launcher, read_batches

pytestmark = pytest.mark.slow

UPDATES = 240
SETTINGS = (
    f"duration={UPDATES}ba",
    "checkpoints={interval: 10ba, keep: 2}",
    "evaluation.interval=80ba",
    "data.window=64",  # several windows an epoch, and several epochs
)
NUM_KILLS = 20


@dataclass
class Outcome:
    """Everything that a run computed."""

    records: list[tuple[object, ...]]
    weights: dict[str, torch.Tensor]
    batches: dict[int, dict[int, set[str]]]


class Runs:
    """Runs of one set of settings, each launch in the same run folder."""

    def __init__(self, launcher: Launcher, tiny: Overrides, folder: Path) -> None:
        self.launcher = launcher
        self.settings = tiny(*SETTINGS, f"data.cache={folder / 'orders'}")
        self.run_folder = folder / "runs" / "tiny"
        self.orders = folder / "orders"

    def launch(
        self,
        due: Callable[[], bool] = lambda: False,
        signum: int = signal.SIGKILL,
        num_processes: int = 1,
        num_workers: int = 0,
    ) -> int:
        overrides = [*self.settings, f"data.num_workers={num_workers}"]
        run = self.launcher.start(TINY_RECIPE, overrides, num_processes)
        return run.signal_when(due, signum)

    def step_begun(self, step: int) -> bool:
        return any(f'"update": {step},' in f.read_text() for f in self._batch_files())

    def saving(self) -> bool:
        """A checkpoint is being written."""
        return bool(list((self.run_folder / "checkpoints").glob(".step-*.tmp")))

    def building(self) -> bool:
        """An order is being built."""
        return bool(list(self.orders.glob("*.partial")))

    def _batch_files(self) -> list[Path]:
        return list(self.launcher.batches.glob("*.jsonl"))

    def outcome(self) -> Outcome:
        keys = ("event", "step", "tokens", "loss", "lr", "eval_loss")
        records = [tuple(r.get(key) for key in keys) for r in read_records(self.run_folder)]
        last = read_checkpoint(list_checkpoints(self.run_folder / "checkpoints")[-1])
        return Outcome(records, last["state"]["model"], read_batches(self.launcher.batches))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("batches"))
    yield launcher
    launcher.close()


@pytest.fixture
def runs(server: Launcher, tiny: Overrides, tmp_path: Path) -> Runs:
    server.batches = tmp_path / "batches"
    server.batches.mkdir()
    return Runs(server, tiny, tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(
    server: Launcher, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    folder = tmp_path_factory.mktemp("uninterrupted")
    server.batches = folder / "batches"
    server.batches.mkdir()
    settings = [f"data.path={corpus}", f"runs_folder={folder / 'runs'}"]
    runs = Runs(server, lambda *more: [*settings, *more], folder)
    assert runs.launch() == 0
    outcome = runs.outcome()
    assert len(outcome.batches) == UPDATES
    return outcome


def test_killed_twenty_times_a_run_ends_as_the_uninterrupted_one(
    uninterrupted: Outcome, runs: Runs
) -> None:
    generator = random.Random(0)
    killed_while = dict.fromkeys(("training", "saving", "building"), 0)
    for kill in range(NUM_KILLS):
        moment = ("training", "saving", "building")[kill % 3]
        if moment == "building":
            for order in runs.orders.glob("*.order"):
                order.unlink()  # as if this node had never had them
        newest = list_checkpoints(runs.run_folder / "checkpoints")[-1:]
        begun = int(newest[0].stem[-8:]) if newest else 0
        step = begun + generator.randrange(12)
        due = {
            "training": lambda step=step: runs.step_begun(step),
            "saving": lambda step=step: runs.step_begun(step) and runs.saving(),
            "building": runs.building,
        }[moment]
        code = runs.launch(due, num_workers=generator.randrange(2))
        assert code == -signal.SIGKILL, (moment, kill)
        killed_while[moment] += 1
    assert min(killed_while.values()) >= NUM_KILLS // 3
    assert runs.launch() == 0

    outcome = runs.outcome()
    assert outcome.batches == uninterrupted.batches  # and no row was ever another
    assert outcome.records == uninterrupted.records
    for name, weight in uninterrupted.weights.items():
        assert torch.equal(outcome.weights[name], weight), name


def test_any_number_of_processes_and_workers_goes_on_with_the_same_batches(
    uninterrupted: Outcome, runs: Runs
) -> None:
    launches = [(1, 0, 50), (2, 1, 120), (1, 2, 170), (2, 0, None)]
    for num_processes, num_workers, step in launches:
        due = (lambda: False) if step is None else (lambda step=step: runs.step_begun(step))
        code = runs.launch(due, num_processes=num_processes, num_workers=num_workers)
        assert code == (0 if step is None else -signal.SIGKILL)
    assert runs.outcome().batches == uninterrupted.batches


def test_a_run_that_is_told_to_stop_saves_and_says_so(uninterrupted: Outcome, runs: Runs) -> None:
    assert runs.launch(lambda: runs.step_begun(33), signal.SIGTERM, num_workers=1) == 75
    stopped_at = read_records(runs.run_folder, "train")[-1]["step"]
    newest = list_checkpoints(runs.run_folder / "checkpoints")[-1]
    assert newest.name == f"step-{stopped_at:08d}.pt"
    assert runs.launch() == 0
    outcome = runs.outcome()
    assert outcome.batches == uninterrupted.batches
    assert all(
        torch.equal(outcome.weights[name], weight) for name, weight in uninterrupted.weights.items()
    )
