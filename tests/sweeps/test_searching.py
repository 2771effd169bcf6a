"""A search over a known function: what it draws, shares, goes on with, and stops at rungs."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.commands import main
from flexbert.errors import ConfigError, UserError
from flexbert.sweeps import condition_notes, running, searching, study, sweep_report
from flexbert.sweeps.search_table import SearchTable, search_table_text
from flexbert.sweeps.sweep_file import read_sweep
from flexbert.train.processes.run_errors import NumbersError
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.integration.launcher import PATIENCE_SECONDS
from tests.integration.two_nodes import wait_until
from tests.sweeps.pretended_training import (
    EVALUATIONS,
    LAUNCHES,
    UPDATES,
    PretendedTraining,
    is_finished,
    loss,
    searched,
)

pytest.importorskip("optuna", reason="the group search is not installed")

KEYS = {
    "optimizer.lr": {"log": [1e-4, 1.0]},
    "model.mlp.activation": {"choice": ["gelu", "silu"]},
}


def written(folder: Path, **search: Any) -> Path:
    tree = {
        "base": str(TINY_RECIPE),
        "overrides": {"data.path": "/some/corpus"},
        "search": {"trials": 6, "keys": KEYS, **search},
    }
    folder.mkdir(exist_ok=True)
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(autouse=True)
def real_ones_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "train_runs", running.train_runs)
    monkeypatch.setattr(sweep_report, "is_finished", running.is_finished)
    monkeypatch.setattr(sweep_report, "held_conditions", condition_notes.held_conditions)


def of(folder: Path, training: PretendedTraining | None = None, **search: Any) -> SearchTable:
    path = written(folder, **search)
    return searched(path, folder / "sweep", training or PretendedTraining(folder))


def values_of(table: SearchTable) -> list[Any]:
    return [(trial.point.label, trial.state, trial.value) for trial in table.trials]


def updates(folder: Path) -> list[str]:
    return (folder / UPDATES).read_text().splitlines()


def test_what_came_of_trials_draws_better_ones_than_chance(tmp_path: Path) -> None:
    found = {}
    for sampler in ("tpe", "random"):
        best, last = [], []
        for seed in (1, 2):
            search = _search(tmp_path, sampler=sampler, seed=seed, trials=25)
            folder = tmp_path / f"{sampler}{seed}"
            own = study.Study(folder, search, measure="eval_loss", seeds=[17])
            while own.draw():
                trial = own.trials()[-1]
                own.end(trial.number, loss(trial.point))
            losses = [trial.value or 9.0 for trial in own.trials()]
            best.append(min(losses))
            # The first ten are drawn by chance by both.
            last += losses[10:]
        found[sampler] = sum(best) / len(best), sum(last) / len(last)
    assert found["tpe"][0] < found["random"][0]
    assert found["tpe"][1] < 0.5 * found["random"][1]


def test_a_seed_draws_the_same_trials_and_more_may_be_asked_for_later(tmp_path: Path) -> None:
    whole = of(tmp_path / "whole")
    assert values_of(of(tmp_path / "other", seed=18)) != values_of(whole)
    of(tmp_path / "parts", trials=3)
    assert values_of(of(tmp_path / "parts")) == values_of(whole)
    # One that is at its end trains nothing.
    before = updates(tmp_path / "parts")
    assert values_of(of(tmp_path / "parts")) == values_of(whole)
    assert updates(tmp_path / "parts") == before
    names = {f"{name} {step}" for name in runs_in(tmp_path / "whole") for step in range(1, 10)}
    assert Counter(updates(tmp_path / "whole")) == Counter(names)


def runs_in(folder: Path) -> list[str]:
    return [path.name for path in (folder / "sweep" / "runs").iterdir()]


@pytest.mark.slow
def test_processes_share_a_search_and_go_on_with_the_trial_of_one_that_is_killed(
    tmp_path: Path,
) -> None:
    alone = of(tmp_path / "alone")
    file, folder = written(tmp_path), tmp_path / "shared"
    script = REPOSITORY / "tests" / "sweeps" / "pretended_training.py"
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    # It trains a trial, and sleeps in the middle of its second.
    other = subprocess.Popen(
        [sys.executable, str(script), str(file), str(folder), "2"],
        env={**os.environ, "PYTHONPATH": path},
    )
    wait_until((folder / "sleeps").exists, PATIENCE_SECONDS)
    begun = len(updates(folder))
    training = PretendedTraining(folder)

    def kill_the_other_after_the_fourth() -> None:
        if training.begun == 4:
            other.kill()
            other.wait()

    training.after_each = kill_the_other_after_the_fourth
    shared = searched(file, folder, training)
    assert values_of(shared) == values_of(alone)
    # The second run was begun twice, the last time after the four others, and went on where it was.
    launches = (folder / LAUNCHES).read_text().split()
    assert begun == EVALUATIONS + EVALUATIONS // 2 - 1
    assert launches[6:] == [launches[1]]
    assert len(set(launches)) == 6
    steps = Counter(updates(folder))
    assert (len(steps), {*steps.values()}) == (6 * EVALUATIONS, {1})


def test_trials_that_are_not_among_the_best_at_a_rung_are_stopped(tmp_path: Path) -> None:
    halving = {"first": "100tok", "factor": 3}
    table = of(tmp_path, sampler="random", trials=15, halving=halving)
    runs = searching.TrialRuns(read_sweep(written(tmp_path)), tmp_path / "sweep")
    values: dict[int, list[float]] = {1: [], 3: [], 9: []}
    for trial in table.trials:
        (run,) = runs.of(trial)
        steps = [int(line.split()[1]) for line in updates(tmp_path) if line.startswith(run.name)]
        ends = None
        # Of those at a rung so far, one in three goes on; the best of them where they are fewer.
        for rung in values:
            values[rung].append(loss(trial.point, rung))
            best = sorted(values[rung])[: max(1, len(values[rung]) // 3)]
            if values[rung][-1] > best[-1]:
                ends = rung
                break
        assert (trial.state, trial.at) == (
            ("complete", 900) if ends is None else ("stopped", 100 * ends)
        )
        assert len(steps) == (ends or EVALUATIONS)
        assert is_finished(run) == (trial.at == 900)
    stopped = [trial for trial in table.trials if trial.state == "stopped"]
    assert len(stopped) >= 8
    text = search_table_text(table)
    assert text.count("stopped at") == len(stopped)
    assert f"best of 15 trials: {table.trials[table.best or 0].point.label}" in text


def test_a_trial_that_has_no_finite_number_at_a_rung_is_stopped_there(tmp_path: Path) -> None:
    search = _search(tmp_path, halving={"first": "1ba"})
    own = study.Study(tmp_path, search, measure="eval_loss", seeds=[17])
    assert own.draw()
    assert own.is_enough(0, {1: math.nan})
    (trial,) = own.trials()
    assert (trial.state, trial.value, trial.at) == ("stopped", None, 1)


def test_a_run_that_fails_is_tried_again_and_one_whose_numbers_went_bad_is_not(
    tmp_path: Path,
) -> None:
    plain = of(tmp_path / "plain", trials=4)
    names = [trial.point.label.replace("=", "-").replace(",", "_") for trial in plain.trials]
    training = PretendedTraining(tmp_path)
    training.codes = {names[1]: 1, names[2]: NumbersError.exit_code}
    table = of(tmp_path, training, trials=4)
    assert [trial.state for trial in table.trials] == ["complete", "open", "bad", "complete"]
    assert "its numbers went bad" in search_table_text(table)
    training.codes = {}
    table = of(tmp_path, training, trials=4)
    assert [trial.state for trial in table.trials] == ["complete", "complete", "bad", "complete"]
    launches = Counter((tmp_path / LAUNCHES).read_text().split())
    assert [launches[name] for name in names] == [1, 2, 1, 1]


def test_a_point_that_is_drawn_again_is_not_trained_again(tmp_path: Path) -> None:
    keys = {
        "optimizer.lr": {"choice": [1e-3, 2e-3]},
        "model.mlp.activation": KEYS["model.mlp.activation"],
    }
    table = of(tmp_path, keys=keys, trials=6)
    assert [trial.state for trial in table.trials] == ["complete"] * 6
    by_label = {trial.point.label: trial.value for trial in table.trials}
    assert all(by_label[trial.point.label] == trial.value for trial in table.trials)
    assert len(by_label) < 6
    assert len((tmp_path / LAUNCHES).read_text().split()) == len(by_label)


def test_another_search_in_the_same_folder_is_one_line(tmp_path: Path) -> None:
    of(tmp_path, trials=2)
    with pytest.raises(UserError, match=r"another search; changed: search.seed \(17 -> 3\)"):
        of(tmp_path, trials=2, seed=3)
    other = {**KEYS, "optimizer.lr": {"log": [1e-5, 1.0]}}
    with pytest.raises(UserError, match=r"changed: search\.keys\.optimizer\.lr"):
        of(tmp_path, trials=2, keys=other)


def test_a_journal_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    of(tmp_path, trials=2)
    journal = tmp_path / "sweep" / "search" / "journal.log"
    journal.write_bytes(b"not\n" + journal.read_bytes())
    with pytest.raises(UserError, match=r"journal\.log: cannot be read as a search's"):
        of(tmp_path, trials=2)


def test_what_the_recipe_refuses_is_seen_before_the_first_trial(tmp_path: Path) -> None:
    wrong = {"model.mlp.activatoin": {"choice": ["gelu", "silu"]}}
    with pytest.raises(UserError, match=r"run 1 of 2 .*model\.mlp\.activatoin"):
        of(tmp_path, keys=wrong)
    # Whole at both ends, and not between.
    between = {"batch.size": {"log": [2, 64]}}
    with pytest.raises(UserError, match=r"batch\.size"):
        of(tmp_path, keys=between)
    assert not (tmp_path / "sweep").exists()


def test_without_optuna_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"needs Optuna: pip install 'optuna>=5'"):
        study.Study(tmp_path, _search(tmp_path), measure="eval_loss", seeds=[17])


def _search(folder: Path, **search: Any) -> Any:
    return read_sweep(written(folder, **search)).search


WRONG = {
    "count": ({"trials": 0}, "search.trials: expected a whole number from 1"),
    "sampler": ({"sampler": "tpee"}, "search.sampler: .* did you mean 'tpe'"),
    "unknown": ({"trails": 3}, "search.trails: unknown key; did you mean 'trials'"),
    "seed": ({"seed": -1}, "search.seed: expected a whole number"),
    "keys": ({"keys": {}}, "search.keys: expected keys"),
    "spread": ({"keys": {"a": {"log": [0, 1]}}}, r"search\.keys\.a\.log: expected positive"),
    "twice": ({"keys": {"a": {"choice": [1, 1]}}}, r"search\.keys\.a: a value is given twice"),
    "rung": ({"halving": {"first": "0.1dur"}}, r"search\.halving\.first: expected tokens"),
    "no rung": ({"halving": {}}, r"search\.halving\.first: expected a duration"),
    "factor": ({"halving": {"first": "1ba", "factor": 1}}, "factor: expected a whole number"),
    "halving": ({"halving": {"frist": "1ba"}}, r"search\.halving\.frist: .*'first'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_search_is_one_line(tmp_path: Path, name: str) -> None:
    search, said = WRONG[name]
    with pytest.raises(ConfigError, match=said):
        read_sweep(written(tmp_path, **search))


def test_rungs_compare_what_is_known_at_them_of_one_run(tmp_path: Path) -> None:
    path = written(tmp_path, halving={"first": "1ba"})
    tree = yaml.safe_load(path.read_text())
    for own, said in (
        ({"seeds": [1, 2]}, "so it has one seed"),
        ({"measure": "tokens_per_second"}, "by what evaluations measure"),
        ({"reference": {"a": 1}}, "reference: a search's trials"),
    ):
        path.write_text(yaml.safe_dump({**tree, **own}))
        with pytest.raises(ConfigError, match=said):
            read_sweep(path)


def test_what_is_known_beforehand_ends_the_command_before_the_first_trial(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["overrides"]["data.path"] = str(corpus)
    folder = tmp_path / "sweep"

    def said(*options: str, **own: Any) -> str:
        path.write_text(yaml.safe_dump({**tree, **own}))
        assert main(["sweep", str(path), "--out", str(folder), *options]) == 2
        return capsys.readouterr().err

    assert "--slurm divides runs that are known" in said("--slurm")
    assert "--shard divides runs that are known" in said("--shard", "1/2")
    assert "--at-once: a process trains one trial" in said("--at-once", "2")
    assert "did you mean 'eval_loss'" in said(measure="eval_lss")
    assert not folder.exists()
    path.write_text(yaml.safe_dump(tree))
    assert main(["sweep", str(path), "--out", str(folder), "--plan"]) == 0
    printed = capsys.readouterr()
    assert "a search of 6 trials, 0 of them over" in printed.out
    assert "activation-gelu_lr-1 " in printed.out
    assert not folder.exists()


def test_the_page_shows_a_search(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "sweeps.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    (block,) = [block for block in blocks if "search:" in block]
    path = tmp_path / "page.yaml"
    path.write_text(block.replace("../base.yaml", str(REPOSITORY / "yamls" / "base.yaml")))
    search = read_sweep(path).search
    assert search is not None
    assert (search.trials, [*search.spreads]) == (40, sorted(KEYS))
    assert search.halving is not None
