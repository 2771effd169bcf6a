"""The table of a sweep, against scipy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import yaml

from flexbert.errors import UserError
from flexbert.files.line_file import json_line
from flexbert.sweeps.outcomes import RunOutcome, more_is_better, read_outcome
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from flexbert.sweeps.sweep_table import sweep_table, sweep_table_text
from tests.conftest import TINY_RECIPE

LOSSES = {
    "gelu": [3.10, 3.14, 3.05],
    "silu": [3.01, 3.06, 2.97],
    "relu": [3.12, 3.10, 3.08],
}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    path = tmp_path / "ablation.yaml"
    tree = {
        "base": str(TINY_RECIPE),
        "overrides": {"data.path": "/some/corpus"},
        "grid": {"model.mlp.activation": list(LOSSES)},
        "seeds": [1, 2, 3],
    }
    path.write_text(yaml.safe_dump(tree))
    return read_sweep(path)


@pytest.fixture
def runs(sweep: Sweep, tmp_path: Path) -> list[SweepRun]:
    return resolve_runs(sweep, tmp_path / "sweep")


def outcomes_of(runs: list[SweepRun]) -> list[RunOutcome]:
    return [
        RunOutcome(
            run=run,
            tokens=1000,
            updates=10,
            values={"eval_loss": LOSSES[run.point.values["model.mlp.activation"]][run.seed - 1]},
        )
        for run in runs
    ]


def test_differences_are_those_of_the_paired_t_test(sweep: Sweep, runs: list[SweepRun]) -> None:
    table = sweep_table(sweep, outcomes_of(runs))
    assert (table.reference, table.finished, table.total) == ("activation=gelu", 9, 9)
    assert table.cells["activation=gelu"]["eval_loss"].difference is None
    for name in ("silu", "relu"):
        cell = table.cells[f"activation={name}"]["eval_loss"]
        assert cell.mean == pytest.approx(np.mean(LOSSES[name]))
        assert cell.spread == pytest.approx(scipy.stats.tstd(LOSSES[name]))
        expected = scipy.stats.ttest_rel(LOSSES[name], LOSSES["gelu"]).confidence_interval()
        found = cell.difference
        assert found is not None
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    # A lower loss is the better one, and what holds zero is not.
    _, differences = sweep_table_text(table).split("differences to activation=gelu")
    verdicts = {
        name: next(line for line in differences.splitlines() if f"={name}" in line)
        for name in ("silu", "relu")
    }
    assert verdicts["silu"].endswith("better")
    assert "no difference seen" in verdicts["relu"]


def test_what_is_not_finished_or_no_number_is_left_out(sweep: Sweep, runs: list[SweepRun]) -> None:
    whole = outcomes_of(runs)
    sick = replace(whole[4], values={"eval_loss": math.nan})
    table = sweep_table(sweep, [*whole[:4], sick])
    assert (table.finished, table.total) == (5, 9)
    cell = table.cells["activation=silu"]["eval_loss"]
    assert (cell.seeds, cell.spread) == ((1,), None)
    assert cell.difference is not None
    assert cell.difference.verdict == "not known"
    assert "activation=relu" not in table.cells
    assert sweep_table(sweep, []).cells == {}
    assert "0 of 9" in sweep_table_text(sweep_table(sweep, []))


def test_notes_are_the_last_lines(sweep: Sweep, runs: list[SweepRun]) -> None:
    table = sweep_table(sweep, outcomes_of(runs), ["one", "two"])
    assert sweep_table_text(table).endswith("\n\none\ntwo")


def recorded(run: SweepRun) -> None:
    run.folder.mkdir(parents=True)
    lines = [
        {"event": "train", "loss": 4.0, "tokens_per_second": 10.0, "peak_memory": 5},
        {"event": "train", "loss": 3.0, "tokens_per_second": 90.0, "peak_memory": 9},
        {"event": "train", "loss": 3.5, "tokens_per_second": 50.0, "peak_memory": 7},
        {"event": "eval", "eval_loss": 3.2},
    ]
    header = {"stage": "only", "tokens": 640, "stage_tokens": 640}
    with (run.folder / "metrics.jsonl").open("wb") as file:
        for step, line in enumerate(lines, 1):
            file.write(json_line({**header, "step": step, **line}))
    task = {
        **{"event": "task", "stage": "only", "step": 4, "tokens": 640, "checkpoint": "a.pt"},
        **{"suite": "glue", "task": "mnli", "mode": "frozen", "fingerprint": "0", "seeds": [1]},
        **{"metrics": {"accuracy": 0.5}, "seconds": 1.0},
    }
    (run.folder / "tasks.jsonl").write_bytes(json_line(task))


def test_a_run_comes_to_its_last_numbers_its_median_speed_and_its_largest_memory(
    runs: list[SweepRun],
) -> None:
    with pytest.raises(UserError, match=r"no metrics\.jsonl"):
        read_outcome(runs[0], ["eval_loss"])
    recorded(runs[0])
    wanted = ["eval_loss", "loss", "tokens_per_second", "peak_memory", "mnli.accuracy"]
    found = read_outcome(runs[0], wanted)
    assert list(found.values.values()) == [3.2, 3.5, 50.0, 9, 0.5]
    assert (found.tokens, found.updates) == (640, 4)
    with pytest.raises(UserError, match=r"measure eval_lss: .* did you mean 'eval_loss'"):
        read_outcome(runs[0], ["eval_lss"])


def test_which_number_is_the_better_one() -> None:
    better = {"eval_loss": False, "eval_accuracy": True, "tokens_per_second": True}
    better |= {"peak_memory": False, "sts.mse": False, "mnli.accuracy": True}
    assert {name: more_is_better(name) for name in better} == better
