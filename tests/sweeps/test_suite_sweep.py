"""A suite as the base of a sweep: the points' fits are those of ``flexbert evaluate``, compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import yaml

from flexbert.commands import main
from flexbert.sweeps import suite_points
from flexbert.tasks.results import FitRecord
from flexbert.tasks.search import finished_fits
from flexbert.tasks.task_data import read_task
from tests.conftest import TINY_RECIPE
from tests.tasks.cases import (
    rows_of,
    task_node,
    word_pair_tokenizer,
    write_jsonl,
    write_suite,
    write_tiny,
)

SEEDS = [1, 2, 3]
POOLING = "defaults.pooling=mean,cls"


@dataclass(frozen=True)
class Given:
    """A suite of two tasks and a model."""

    suite: Path
    model: Path

    def sweep(self, folder: Path, *given: str) -> int:
        return main(["sweep", str(self.suite), f"tiny={self.model}", *given, "--out", str(folder)])

    def evaluate(self, folder: Path, *given: str) -> dict[str, FitRecord]:
        seeds = f"defaults.seeds={SEEDS}"
        command = ["evaluate", str(self.suite), f"tiny={self.model}", seeds, *given]
        assert main([*command, "--out", str(folder), "--device", "cpu"]) == 0
        return {f"{one.task} {one.seed}": one for one in finished_fits(folder).values()}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("suite")
    tests = {"tests": {"test": str(_rows(folder))}}
    nodes = {
        "pairs": task_node(folder, "pair", train=16, validation=12),
        "words": task_node(folder, "token_classification", train=16, validation=12),
    }
    nodes["pairs"]["data"] |= tests
    (tokenizer := folder / "tokenizer").mkdir()
    model = write_tiny(folder / "model.pt", word_pair_tokenizer(tokenizer))
    return Given(write_suite(folder, nodes, epochs=1), model)


@pytest.fixture(scope="module")
def swept(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    assert given.sweep(folder, POOLING, "seed=1,2,3") == 0
    return folder


def _rows(folder: Path) -> Path:
    return write_jsonl(folder / "test.jsonl", rows_of("pair", 12, seed=5))


def _table(folder: Path) -> dict[str, Any]:
    (table,) = json.loads((folder / "table.json").read_text())
    assert table["model"] == "tiny"
    found: dict[str, Any] = table
    return found


@pytest.mark.slow
def test_a_point_has_the_fits_that_evaluate_makes_and_scipys_interval(
    given: Given, swept: Path, tmp_path: Path
) -> None:
    values = {}
    for pooling in ("mean", "cls"):
        alone = given.evaluate(tmp_path / pooling, f"defaults.pooling={pooling}")
        values[pooling] = [alone[f"pairs {seed}"].tests["test"]["accuracy"] for seed in SEEDS]
    table = _table(swept)["tests"]
    for pooling, expected in values.items():
        assert table["entries"][f"pooling={pooling}"]["pairs:test"]["values"] == expected
    assert table["reference"] == "pooling=mean"
    (found,) = (e for e in table["differences"] if e["column"] == "pairs:test")
    paired = scipy.stats.ttest_rel(values["cls"], values["mean"])
    interval = paired.confidence_interval(0.95)
    assert found["difference"]["low"] == pytest.approx(interval.low)
    assert found["difference"]["high"] == pytest.approx(interval.high)
    assert (swept / "tiny.png").stat().st_size > 0


def test_the_same_command_makes_no_fit_twice(
    given: Given, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (swept / "table.json").read_bytes()
    assert given.sweep(swept, POOLING, "seed=1,2,3") == 0
    assert "updates" not in capsys.readouterr().err
    assert (swept / "table.json").read_bytes() == before


def test_a_task_that_a_point_leaves_as_it_is_is_fitted_once(
    given: Given,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "sweep"
    read: list[str] = []
    monkeypatch.setattr(
        suite_points, "read_task", lambda task: read.append(task.name) or read_task(task)
    )
    assert given.sweep(folder, "tasks.pairs.epochs=1,2") == 0
    said = capsys.readouterr().err
    assert "epochs=2: has the fits of epochs=1 for words" in said
    assert said.count(" words ") == 1
    assert read == ["pairs", "words"], "rows too"
    one, two = (finished_fits(folder / "points" / f"epochs-{n}") for n in (1, 2))
    shared = {fit for fit in one if one[fit].mode == "fine_tune"} & {*two}
    assert [one[fit].task for fit in shared] == ["words"]
    for fit in shared:
        assert two[fit].predictions is not None
        first, copy = (folder / "points" / f"epochs-{n}" / two[fit].predictions for n in (1, 2))
        assert copy.read_bytes() == first.read_bytes()


def test_a_point_that_shares_its_tasks_with_several_is_refused_for_the_one_it_is_like(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {
        "first": {},
        "second": {"tasks.words.epochs": 2},
        # Its pairs are the first one's already, and its words the second one's.
        "third": {"tasks.words.epochs": 2, "defaults.probe.layers": "last"},
    }
    tree = {"base": str(given.suite), "models": [str(given.model)], "list": points}
    (path := tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert main(["sweep", str(path), "--out", str(tmp_path / "sweep")]) == 2
    assert "third: has the same fits as second" in capsys.readouterr().err


def test_what_is_not_finished_is_named(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    given.evaluate(folder / "points" / "pooling-mean", "defaults.pooling=mean")
    assert given.sweep(folder, POOLING, "seed=1,2,3", "--table") == 0
    assert "pooling=cls: not finished, 0 of 6 fits" in capsys.readouterr().out
    assert next(iter(_table(folder)["validation"]["entries"])) == "pooling=mean"


@pytest.mark.slow
def test_a_file_names_models_and_a_reference(given: Given, tmp_path: Path) -> None:
    tree = {
        "base": str(given.suite),
        "models": [f"tiny={given.model}"],
        "list": {"one": {}, "two": {"defaults.probe.layers": "last"}},
        "reference": "two",
    }
    (path := tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tree))
    folder = tmp_path / "sweep"
    assert main(["sweep", str(path), "--frozen", "--out", str(folder)]) == 0
    table = _table(folder)["validation"]
    assert table["reference"] == "two (frozen)"
    assert {each["row"] for each in table["differences"]} == {"one (frozen)"}


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (["defaults.poolings=mean,cls"], "point 1 of 2 (poolings=mean): tasks.pairs.poolings"),
        (["defaults.epochs=1,two"], "point 2 of 2 (epochs=two): tasks.pairs.epochs"),
        (["defaults.probe.layers=last,first_and_last"], "changes nothing of fine-tuning"),
        (["defaults.epochs=1"], "nothing varies"),
        (["defaults.seeds=[1],[2]", "seed=1,2"], "is the sweep's to give"),
        (["suite=a,b"], "suite: is the suite's name"),
        ([POOLING, "--slurm"], "start the same command on each machine"),
        ([POOLING, "-n", "2"], "--at-once N shares"),
    ],
)
def test_what_is_wrong_ends_a_sweep_before_its_first_fit(
    given: Given,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given_: list[str],
    said: str,
) -> None:
    assert given.sweep(tmp_path / "sweep", *given_) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"search": {"trials": 2, "keys": {"defaults.epochs": {"choice": [1, 2]}}}}, "halving"),
        ({"measure": "accuracy"}, "each task's first metric"),
        ({"models": "tiny"}, "expected a list of models"),
        ({}, "give a model that it is tried on"),
    ],
)
def test_a_file_cannot_ask_of_a_suite_what_runs_have(
    given: Given,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tree: dict[str, Any],
    said: str,
) -> None:
    grid = {} if "search" in tree else {"grid": {"defaults.epochs": [1, 2]}}
    (path := tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"base": str(given.suite), **grid, **tree})
    )
    assert main(["sweep", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_probes_are_of_suites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(TINY_RECIPE), "seed=1,2", "optimizer.lr=1,2", "--frozen"]) == 2
    assert "--frozen is for suites of tasks" in capsys.readouterr().err
