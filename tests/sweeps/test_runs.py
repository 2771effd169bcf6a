"""Runs of a sweep are resolved before the first begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flexbert.errors import ConfigError, UserError
from flexbert.recipes import load_recipe
from flexbert.sweeps.runs import SweepRun, folder_names, resolve_runs, runs_below
from flexbert.sweeps.sweep_file import read_sweep
from tests.conftest import TINY_RECIPE

CORPUS = {"data.path": "/some/corpus"}


def written(folder: Path, **tree: object) -> Path:
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": CORPUS, **tree}))
    return path


def runs_of(folder: Path, *given: str, **tree: object) -> list[SweepRun]:
    return resolve_runs(read_sweep(written(folder, **tree), given), folder / "sweep")


def test_every_run_is_the_base_with_its_values_and_seed(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path,
        "batch.size=4",
        grid={"model.mlp.activation": ["gelu", "silu"], "optimizer.lr": [1e-3, 2e-3]},
        seeds=[1, 2, 3],
    )
    assert len(runs) == 12
    assert [run.name for run in runs[:4]] == [
        *(f"activation-gelu_lr-0.001_seed-{seed}" for seed in (1, 2, 3)),
        "activation-gelu_lr-0.002_seed-1",
    ]
    for run in runs:
        recipe = run.recipe.first
        values = dict(run.point.values)
        assert recipe.model.mlp.activation == values["model.mlp.activation"]  # type: ignore[attr-defined]
        assert recipe.optimizer.lr == values["optimizer.lr"]  # type: ignore[attr-defined]
        assert (recipe.seed, recipe.batch.size) == (run.seed, 4)
        assert run.folder == tmp_path / "sweep" / "runs" / run.name


def test_a_recipe_and_keys_with_several_values_are_a_sweep(tmp_path: Path) -> None:
    given = ["model.mlp.activation=gelu,silu", "seed=1,2,3", "optimizer.betas=[0.9, 0.98]"]
    sweep = read_sweep(TINY_RECIPE, given)
    assert [point.label for point in sweep.points] == ["activation=gelu", "activation=silu"]
    assert sweep.seeds == (1, 2, 3)
    assert sweep.overrides == {"optimizer.betas": [0.9, 0.98]}
    assert sweep.reference == sweep.points[0]
    with pytest.raises(UserError, match="nothing varies"):
        read_sweep(TINY_RECIPE, ["optimizer.betas=[0.9, 0.98]", "seed=1,2"])


def test_a_value_may_be_a_mapping_and_an_empty_one_is_not_lost(tmp_path: Path) -> None:
    text = "schedule={name: constant},{name: trapezoidal, warmup: 1ba, decay: 2ba}"
    sweep = read_sweep(TINY_RECIPE, [text])
    assert [point.values["schedule"]["name"] for point in sweep.points] == [
        "constant",
        "trapezoidal",
    ]
    stopping = "evaluation.early_stopping"
    plain, stopped = runs_of(tmp_path, list=[{stopping: None}, {stopping: {}}])
    assert plain.recipe.first.evaluation.early_stopping is None
    assert stopped.recipe.first.evaluation.early_stopping is not None
    (fixed,) = runs_of(tmp_path, f"{stopping}={{}}", list=[{}])
    assert fixed.recipe.first.evaluation.early_stopping is not None


def test_keys_of_a_node_are_not_lost_where_its_name_comes_after_them(tmp_path: Path) -> None:
    node = {"decay": "2ba", "name": "inverse_sqrt", "warmup": "1ba"}
    (run,) = runs_of(tmp_path, "schedule.final_fraction=0.2", list=[{"schedule": node}])
    schedule = run.recipe.first.schedule
    assert (schedule.name, schedule.warmup.value, schedule.decay.value) == ("inverse_sqrt", 1, 2)  # type: ignore[attr-defined]
    assert schedule.final_fraction == 0.2  # type: ignore[attr-defined]


def test_a_wrong_value_in_a_late_run_stops_everything_in_a_line_that_names_it(
    tmp_path: Path,
) -> None:
    listed = [{"optimizer.lr": n * 1e-3} for n in range(1, 9)]
    listed += [{"model.mlp.activatoin": "gelu"}, *({"optimizer.lr": n * 1e-2} for n in (1, 2, 3))]
    with pytest.raises(UserError, match=r"run 9 of 12 \(activatoin-gelu\): model.mlp.activatoin"):
        runs_of(tmp_path, list=listed)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("key", ["seed", "run_name", "runs_folder"])
def test_what_a_run_has_of_its_own_is_not_overwritten_in_silence(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        runs_of(tmp_path, grid={key: [1, 2]})
    with pytest.raises(ConfigError, match=r"seed|is the sweep's to give"):
        runs_of(tmp_path, f"{key}=1", grid={"optimizer.lr": [1e-3, 2e-3]})


def test_numbers_that_differ_late_are_two_runs(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, grid={"optimizer.lr": [0.001234567, 0.001234568]})
    assert len({run.folder for run in runs}) == len({run.point.label for run in runs}) == 2


def test_names_of_runs_are_names_of_folders_and_never_two_the_same(tmp_path: Path) -> None:
    values = ["a/b", "a b", "a-b", "x" * 300, "x" * 301, "..", {"local": 1.0}]
    sweep = read_sweep(written(tmp_path, grid={"key": values}, seeds=[1, 2]))
    names = list(folder_names(sweep).values())
    assert len(set(names)) == len(names) == 14
    assert all("/" not in name and len(name) <= 100 for name in names)


def test_a_reference_is_named_or_has_these_values_and_no_others(tmp_path: Path) -> None:
    listed = {
        "glu": {},
        "plain": {"mlp": {"name": "mlp"}},
        "relu": {"mlp": {"name": "mlp", "act": 1}},
    }

    def reference(given: object) -> str:
        return read_sweep(written(tmp_path, list=listed, reference=given)).reference.label

    assert reference("relu") == "relu"
    assert reference({}) == "glu"
    assert reference({"mlp.name": "mlp"}) == "plain"
    assert reference({"mlp.act": 1}) == "relu"
    with pytest.raises(ConfigError, match="no point plane; did you mean 'plain'"):
        reference("plane")


def test_a_sweep_that_is_given_as_a_recipe_is_told_apart(tmp_path: Path) -> None:
    file = written(tmp_path, grid={"optimizer.lr": [1e-3, 2e-3]})
    with pytest.raises(UserError, match=f"{file}: is a sweep and no recipe; flexbert sweep"):
        load_recipe(file, [])


def test_folders_of_sweeps_stand_for_their_runs(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "sweep" / "runs" / name).mkdir(parents=True)
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    below = tmp_path / "sweep" / "runs"
    assert runs_below([tmp_path / "sweep", tmp_path / "run"]) == [
        *(below / "a", below / "b", tmp_path / "run")
    ]
    with pytest.raises(UserError, match="no run there"):
        runs_below([tmp_path / "empty"])


WRONG = {
    "unknown key": ({"gird": {"a": [1]}}, "did you mean 'grid'"),
    "no way": ({}, "expected one of grid, list, random"),
    "two ways": ({"grid": {"a": [1]}, "list": [{}]}, "expected one of grid, list, random"),
    "no list": ({"grid": {"a": 1}}, "grid.a: expected a list of values"),
    "seeds": ({"grid": {"a": [1]}, "seeds": [1, 1]}, "seeds: one is given twice"),
    "a seed": ({"grid": {"a": [1]}, "overrides": {"seed": 3}}, "overrides.seed: give seeds"),
    "reference": ({"grid": {"a": [1]}, "reference": {"a": 2}}, "reference: no point of a=1 has"),
    "name": ({"grid": {"a": [1]}, "sweep": "a/b"}, "sweep: expected a name"),
    "measure": ({"grid": {"a": [1]}, "measure": []}, "measure: expected names"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_sweep_is_one_line(tmp_path: Path, name: str) -> None:
    tree, said = WRONG[name]
    with pytest.raises(ConfigError, match=said):
        read_sweep(written(tmp_path, **tree))  # type: ignore[arg-type]
