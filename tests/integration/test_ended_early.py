"""A run that ends a stage early, killed before and after the decision, on one and two processes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from tests.conftest import TINY_RECIPE, read_records
from tests.integration.killed_run import KilledRun, assert_same_weights
from tests.integration.launcher import Launcher

pytestmark = pytest.mark.slow

# So high a rate that losses go up and down.
SETTINGS = (
    "stages={one: {duration: 60ba}, two: {duration: 8ba, evaluation.early_stopping: null}}",
    "schedule={name: constant}",
    "optimizer.lr=10",
    "evaluation.interval=4ba",
    "evaluation.early_stopping={patience: 2, min_delta: 0, restore: best}",
    "checkpoints={interval: 7ba, keep: 2}",
)


@pytest.mark.parametrize("num_processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_killed_around_the_decision_it_ends_as_the_uninterrupted(
    launcher: Launcher, corpus: Path, tmp_path: Path, num_processes: int
) -> None:
    settings = [*SETTINGS, f"data.path={corpus}"]
    whole, killed = (
        KilledRun(launcher, TINY_RECIPE, settings, tmp_path / name) for name in ("whole", "killed")
    )
    assert whole.launch(num_processes=num_processes) == 0
    (end,) = read_records(whole.run_folder, "stage_end")
    last = end["step"]
    assert last < 60
    assert end["restored_step"] is not None, "the test needs a best that is not the last"
    for due in (
        lambda: killed.step_begun(6),
        lambda: killed.step_begun(last - 1) and killed.saving(),
        # The best weights are being written in place of the last ones.
        lambda: bool(list((killed.run_folder / "checkpoints").glob(f".step-*{last}.pt.tmp"))),
        lambda: killed.step_begun(last + 3),
    ):
        code = killed.launch(due, num_processes=num_processes)
        assert code == -signal.SIGKILL
    assert killed.launch(num_processes=num_processes) == 0
    outcome, expected = killed.outcome(), whole.outcome()
    assert outcome.batches == expected.batches
    assert outcome.records == expected.records
    assert_same_weights(outcome.weights, expected.weights)
    names = [
        [path.name for path in list_checkpoints(run.run_folder / "checkpoints")]
        for run in (killed, whole)
    ]
    assert names[0] == names[1]
