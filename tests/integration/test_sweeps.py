"""A sweep that is killed, and goes on in two processes, trains each run once, to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flexbert.metrics_file import read_metrics
from flexbert.sweeps.measure_names import measure_names
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from tests.conftest import TINY_RECIPE
from tests.integration.launcher import PATIENCE_SECONDS
from tests.integration.two_nodes import wait_until

pytestmark = pytest.mark.slow

VARIED = ("model.mlp.activation=gelu,silu", "seed=1,2")
SHORT = ("duration=8ba", "evaluation.interval=8ba", "checkpoints.interval=2ba")


def started(folder: Path, corpus: Path, at_once: int = 1) -> subprocess.Popen[bytes]:
    arguments = [*VARIED, *SHORT, f"data.path={corpus}", "--out", str(folder), "--json"]
    arguments += ["--at-once", str(at_once)]
    command = [sys.executable, "-m", "flexbert.commands", "sweep", str(TINY_RECIPE), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def runs_of(folder: Path, corpus: Path) -> list[SweepRun]:
    sweep = read_sweep(TINY_RECIPE, [*VARIED, *SHORT, f"data.path={corpus}"])
    return resolve_runs(sweep, folder)


def test_a_sweep_that_is_killed_and_shared_is_the_one_that_was_left_alone(
    corpus: Path, tmp_path: Path
) -> None:
    alone = started(tmp_path / "alone", corpus, at_once=2)
    # Its process dies, and not the run that it has started: that one keeps its lock, and ends.
    killed = started(tmp_path / "killed", corpus)
    second = runs_of(tmp_path / "killed", corpus)[1]
    wait_until((second.folder / "config.yaml").exists, PATIENCE_SECONDS)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    others = [started(tmp_path / "killed", corpus) for _ in range(2)]
    tables = []
    for process in (alone, *others):
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        tables.append(json.loads(output))
    assert tables[0]["cells"] == tables[1]["cells"] == tables[2]["cells"]
    assert tables[0]["finished"] == 4
    for name, table in (("alone", tables[0]), ("killed", tables[1])):
        assert json.loads((tmp_path / name / "table.json").read_text()) == table
        assert {path.name for path in (tmp_path / name).glob("*.png")} == {
            *("curves.png", "pareto.png")
        }
    # Another activation alone is trained on the same rows, from the same weights.
    for table in tables:
        *_, equal = table["notes"]
        assert "tokens, updates, FLOPs in all, processes, device, software" in equal
    for run in runs_of(tmp_path / "killed", corpus):
        log = (tmp_path / "killed" / "logs" / f"{run.name}.log").read_text()
        assert log.count("step      8  eval") == 1, log
        # What is known beforehand of a run's measures is what it has recorded.
        recorded = {name for record in read_metrics(run.folder) for name in record.numbers}
        counted = {name for name in recorded if name.startswith(("groups.", "epochs."))}
        assert recorded - counted == {*measure_names(run.recipe)}
