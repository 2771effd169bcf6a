"""Runs that are killed, stopped and moved continue as if nothing had been."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from tests.conftest import REPOSITORY, TINY_RECIPE, Overrides, read_records
from tests.integration.killed_run import KilledRun, Outcome, assert_same_weights
from tests.integration.launcher import Launcher

pytestmark = pytest.mark.slow

UPDATES = 240
SETTINGS = (
    f"duration={UPDATES}ba",
    "checkpoints={interval: 10ba, keep: 2}",
    "evaluation.interval=80ba",
    "data.packing_window=64",  # several windows an epoch, and several epochs
)
NUM_KILLS = 9


@pytest.fixture
def run(launcher: Launcher, corpus: Path, tmp_path: Path) -> KilledRun:
    return KilledRun(launcher, TINY_RECIPE, [*SETTINGS, f"data.path={corpus}"], tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(
    launcher: Launcher, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run = KilledRun(launcher, TINY_RECIPE, [*SETTINGS, f"data.path={corpus}"], folder)
    assert run.launch() == 0
    outcome = run.outcome()
    assert len(outcome.batches) == UPDATES
    return outcome


def test_killed_nine_times_a_run_ends_as_the_uninterrupted_one(
    uninterrupted: Outcome, run: KilledRun
) -> None:
    generator = random.Random(0)
    killed_while = dict.fromkeys(("training", "saving", "building"), 0)
    for kill in range(NUM_KILLS):
        moment = ("training", "saving", "building")[kill % 3]
        if moment == "building":
            for order in run.orders.glob("*.order"):
                order.unlink()  # as if this node had never had them
        newest = list_checkpoints(run.run_folder / "checkpoints")[-1:]
        begun = int(newest[0].stem[-8:]) if newest else 0
        step = begun + generator.randrange(12)
        due = {
            "training": lambda step=step: run.step_begun(step),
            "saving": lambda step=step: run.step_begun(step) and run.saving(),
            "building": run.building,
        }[moment]
        code = run.launch(due, num_workers=generator.randrange(2))
        assert code == -signal.SIGKILL, (moment, kill)
        killed_while[moment] += 1
    assert min(killed_while.values()) >= NUM_KILLS // 3
    assert run.launch() == 0

    outcome = run.outcome()
    assert outcome.batches == uninterrupted.batches  # and no row was ever another
    assert outcome.records == uninterrupted.records
    assert_same_weights(outcome.weights, uninterrupted.weights)


def test_any_number_of_processes_and_workers_goes_on_with_the_same_batches(
    uninterrupted: Outcome, run: KilledRun
) -> None:
    launches = [(1, 0, 50), (2, 1, 120), (1, 2, 170), (2, 0, None)]
    for num_processes, num_workers, step in launches:
        due = (lambda: False) if step is None else (lambda step=step: run.step_begun(step))
        code = run.launch(due, num_processes=num_processes, num_workers=num_workers)
        assert code == (0 if step is None else -signal.SIGKILL)
    assert run.outcome().batches == uninterrupted.batches


def test_a_run_that_is_told_to_stop_saves_and_says_so(
    uninterrupted: Outcome, run: KilledRun
) -> None:
    assert run.launch(lambda: run.step_begun(33), signal.SIGTERM, num_workers=1) == 75
    stopped_at = read_records(run.run_folder, "train")[-1]["step"]
    newest = list_checkpoints(run.run_folder / "checkpoints")[-1]
    assert newest.name == f"step-{stopped_at:08d}.pt"
    assert run.launch() == 0
    outcome = run.outcome()
    assert outcome.batches == uninterrupted.batches
    assert_same_weights(outcome.weights, uninterrupted.weights)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_libraries_are_imported_is_a_request(
    tiny: Overrides, signum: int
) -> None:
    command = [sys.executable, "main.py", str(TINY_RECIPE), *tiny()]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not catches(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert f"stopped on request ({signal.Signals(signum).name})" in output.splitlines()[-1]
    assert "Traceback" not in output


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal, as the kernel sees it."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (signum - 1) & 1)
