"""A measure that no run will record is found before one begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from flexbert.errors import ConfigError
from flexbert.sweeps.measure_names import (
    SHARES,
    SPEED,
    check_measures,
    is_speed,
    measure_names,
)
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from flexbert.train.speed_monitor import TrainingCost
from flexbert.train.step_times import PARTS
from tests.conftest import REPOSITORY, TINY_RECIPE

SUITE = REPOSITORY / "yamls" / "suites" / "offline.yaml"


def runs_of(folder: Path, **tree: object) -> list[SweepRun]:
    path = folder / "ablation.yaml"
    overrides = {"data.path": "/some/corpus"}
    path.write_text(yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": overrides, **tree}))
    return resolve_runs(read_sweep(path), folder / "sweep")


def test_a_measure_is_one_of_the_run_its_sources_or_its_suite(tmp_path: Path) -> None:
    sources = {"a": {"path": "/a", "weight": 1}, "b": {"path": "/b", "weight": 1}}
    runs = runs_of(
        tmp_path,
        list=[{"evaluation.suite.file": str(SUITE)}],
        overrides={"data.sources": sources, "data.path": None},
    )
    names = measure_names(runs[0].recipe)
    tasks = [
        name
        for name in names
        if name.partition(".")[0] in yaml.safe_load(SUITE.read_text())["tasks"]
    ]
    assert tasks
    known = ["eval_loss", "eval_losses.b", "time_shares.data", "peak_memory", "groups.0.lr"]
    check_measures(runs, [*known, tasks[0]])
    slips = {"eval_lss": "eval_loss", "eval_losses.c": "eval_losses", f"{tasks[0]}x": tasks[0]}
    for wrong, meant in slips.items():
        said = f"^measure: run 1 of 1 .*{wrong}.*did you mean '{meant}"
        with pytest.raises(ConfigError, match=said):
            check_measures(runs, [wrong])


def test_the_run_that_records_less_than_others_is_named(tmp_path: Path) -> None:
    stopping = {"evaluation.early_stopping": {}}
    runs = runs_of(tmp_path, list=[stopping, {}])
    check_measures(runs[:1], ["best_step"])
    with pytest.raises(ConfigError, match=r"run 2 of 2 \(base.*\) records no 'best_step'"):
        check_measures(runs, ["best_step"])


def test_which_measures_are_of_speed() -> None:
    fields = {field.name for field in dataclasses.fields(TrainingCost)}
    assert {*SPEED} == {"seconds", *fields}
    assert SHARES == PARTS
    names = ("tokens_per_second", "mfu", "peak_memory", "time_shares.data", "seconds")
    assert all(map(is_speed, names))
    assert not any(map(is_speed, ("eval_loss", "loss", "mnli.accuracy", "lr")))
