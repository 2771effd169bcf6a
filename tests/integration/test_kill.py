"""A run that is killed, or told to stop, continues with the same command as if nothing had been."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flexbert.checkpoint.file import list_checkpoints, read_checkpoint
from tests.conftest import REPOSITORY, Overrides, read_records

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 240


def command(overrides: list[str]) -> list[str]:
    return [sys.executable, "main.py", "tests/integration/tiny.yaml", *overrides]


def finish(overrides: list[str]) -> None:
    subprocess.run(
        command(overrides),
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )


def interrupt(overrides: list[str], run_folder: Path, step: int, signum: int) -> int:
    """Start a run, send it a signal once a record of update ``step`` is there; its exit code."""
    metrics = run_folder / "metrics.jsonl"
    with subprocess.Popen(
        command(overrides), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not metrics.exists() or f'"step": {step},' not in metrics.read_text():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signum)
        return process.wait(PATIENCE_SECONDS)


def outcome(run_folder: Path) -> tuple[list[tuple[object, ...]], dict[str, torch.Tensor]]:
    """Everything that a run computed: its records and its final weights."""
    records = [
        (r["event"], r["step"], r["tokens"], r.get("loss"), r.get("lr"), r.get("eval_loss"))
        for r in read_records(run_folder)
    ]
    last = read_checkpoint(list_checkpoints(run_folder / "checkpoints")[-1])
    return records, last["state"]["model"]


def test_killed_and_stopped_runs_end_as_the_uninterrupted_one(
    tiny: Overrides, tmp_path: Path
) -> None:
    # Long enough that a signal arrives in the middle; a loader process that reads ahead.
    settings = tiny("duration=300ba", "checkpoints.interval=50ba", "data.num_workers=1")
    folder = tmp_path / "runs" / "tiny"
    finish(settings)
    records, weights = outcome(folder)
    folder.rename(tmp_path / "uninterrupted")

    assert interrupt(settings, folder, step=120, signum=signal.SIGKILL) == -signal.SIGKILL
    assert interrupt(settings, folder, step=180, signum=signal.SIGTERM) == 75
    stopped_at = len(read_records(folder, "train"))
    newest = list_checkpoints(folder / "checkpoints")[-1]
    assert newest.name == f"step-{stopped_at:08d}.pt"
    finish(settings)

    resumed_records, resumed_weights = outcome(folder)
    assert resumed_records == records
    assert all(torch.equal(resumed_weights[name], weights[name]) for name in weights)
