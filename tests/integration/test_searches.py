"""A search over real runs: stopped, gone on with, and its trials stopped at rungs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.metrics_file import read_metrics
from tests.conftest import TINY_RECIPE
from tests.integration.launcher import PATIENCE_SECONDS
from tests.integration.two_nodes import wait_until

pytestmark = pytest.mark.slow
pytest.importorskip("optuna", reason="the group search is not installed")

UPDATES = 60


def started(file: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flexbert.commands", "sweep", str(file)]
    return subprocess.Popen(
        [*command, "--out", str(folder), "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
    )


def test_a_search_goes_on_after_it_was_stopped_and_stops_trials_at_rungs(
    corpus: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "rates.yaml", tmp_path / "sweep"
    overrides = {
        "data.path": str(corpus),
        "duration": f"{UPDATES}ba",
        "evaluation.interval": "4ba",
        "checkpoints.interval": "4ba",
    }
    search = {
        "trials": 3,
        # Draws the largest rate first, which learns most by any rung.
        "seed": 6,
        "keys": {"optimizer.lr": {"log": [1e-6, 1e-2]}},
        "halving": {"first": "4ba", "factor": 3},
    }
    file.write_text(
        yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": overrides, "search": search})
    )
    stopped = started(file, folder)
    wait_until(lambda: any(folder.glob("runs/*/checkpoints/step-*.pt")), PATIENCE_SECONDS)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(PATIENCE_SECONDS) == 75
    again = started(file, folder)
    output, _ = again.communicate(timeout=PATIENCE_SECONDS)
    assert again.returncode == 0
    table = json.loads(output)
    rungs: dict[int, list[float]] = {4: [], 12: [], 36: []}
    for trial in table["trials"]:
        losses = losses_of(run_of(folder, trial))
        end = None
        for rung, values in rungs.items():
            values.append(losses[rung])
            if losses[rung] > sorted(values)[max(1, len(values) // 3) - 1]:
                end = rung
                break
        assert (trial["state"], trial["at"]) == (
            ("complete", UPDATES) if end is None else ("stopped", end)
        )
        assert trial["value"] == losses[end or UPDATES]
    states = [trial["state"] for trial in table["trials"]]
    assert states == ["complete", "stopped", "stopped"]
    # Stopped soon after the rung, with a checkpoint, and not at the end.
    assert (table["finished"], table["best"]) == (1, 0)
    for trial in table["trials"][1:]:
        assert [*run_of(folder, trial).glob("checkpoints/step-*.pt")]


def run_of(folder: Path, trial: dict[str, Any]) -> Path:
    return folder / "runs" / trial["point"]["label"].replace("=", "-")


def losses_of(run: Path) -> dict[int, float]:
    return {each.step: each.numbers["eval_loss"] for each in read_metrics(run, "eval")}
