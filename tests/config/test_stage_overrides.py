"""Stages: what each one is, what it may change, and what is told of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.stage_overrides import STAGES
from flexbert.errors import ConfigError, UserError
from flexbert.plan import make_plan
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY, TINY_RECIPE

STAGED = """
include: [{tiny}]
stages:
  pretrain: {{duration: 8ba}}
  extend:
    duration: 4ba
    data.max_length: 128
    batch.size: 3
    optimizer.lr: 1.0e-3
    schedule: {{name: constant}}
  decay:
    duration: 2ba
    schedule: {{name: trapezoidal, decay: 1dur}}
"""


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    file = tmp_path / "staged.yaml"
    file.write_text(STAGED.format(tiny=TINY_RECIPE))
    return file


def load(path: Path, *overrides: str) -> LoadedRecipe:
    return load_recipe(path, ["data.path=somewhere", *overrides])


def test_what_a_stage_changes_stays_changed(staged: Path) -> None:
    pretrain, extend, decay = load(staged).stages.values()
    assert [str(stage.duration) for stage in (pretrain, extend, decay)] == ["8ba", "4ba", "2ba"]
    assert [s.data.max_length for s in (pretrain, extend, decay)] == [64, 128, 128]
    assert [s.optimizer.lr for s in (pretrain, extend, decay)] == [1e-2, 1e-3, 1e-3]
    assert [s.schedule.name for s in (pretrain, extend, decay)] == [
        "trapezoidal",
        "constant",
        "trapezoidal",
    ]
    # A node of another name replaces the one before it whole.
    assert decay.schedule.warmup.value == 0  # type: ignore[attr-defined]


def test_a_recipe_without_stages_is_one(staged: Path) -> None:
    assert list(load(TINY_RECIPE).stages) == ["pretrain"]
    assert load(TINY_RECIPE).resolved[STAGES] == {"pretrain": {}}


def test_the_resolved_recipe_says_what_each_stage_changes(staged: Path) -> None:
    changes = load(staged).resolved[STAGES]
    assert changes["pretrain"] == {}
    assert changes["extend"] == {
        "data": {"max_length": 128},
        "batch": {"size": 3},
        "optimizer": {"lr": 1e-3},
        "schedule": {"name": "constant"},
        "duration": "4ba",
    }


def test_a_file_that_lists_all_stages_orders_them(staged: Path, tmp_path: Path) -> None:
    file = tmp_path / "between.yaml"
    file.write_text(
        f"include: [{staged}]\nstages: {{pretrain: {{}}, more: {{}}, extend: {{}}, decay: {{}}}}\n"
    )
    assert list(load(file).stages) == ["pretrain", "more", "extend", "decay"]
    file.write_text(f"include: [{staged}]\nstages: {{more: {{}}}}\n")
    assert list(load(file).stages) == ["pretrain", "extend", "decay", "more"]
    backwards = [f"stages.{name}.duration=9ba" for name in ("decay", "extend", "pretrain")]
    assert list(load(staged, *backwards).stages) == ["pretrain", "extend", "decay"]


def test_null_takes_out_a_stage_that_was_there(staged: Path, tmp_path: Path) -> None:
    unwarmed = "stages.decay.schedule.warmup=0ba"
    assert list(load(staged, "stages.extend=null", unwarmed).stages) == ["pretrain", "decay"]
    file = tmp_path / "shorter.yaml"
    file.write_text(f"include: [{staged}]\nstages: {{extend: null, decay: {{duration: 3ba}}}}\n")
    assert list(load(file, unwarmed).stages) == ["pretrain", "decay"]
    file.write_text(f"include: [{TINY_RECIPE}]\nstages: {{pretrain: , decay: {{}}}}\n")
    with pytest.raises(ConfigError, match=r"stages.pretrain: .*\({} for none\), got None"):
        load(file)


def test_a_source_that_a_stage_sets_to_null_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        f"include: [{TINY_RECIPE}]\n"
        "data.sources: {web: {path: w, weight: 1}, code: {path: c, weight: 1}}\n"
        "stages: {one: {}, two: {data.sources: {web: null, books: {path: b, weight: 3}}}}\n"
    )
    one, two = load_recipe(file, []).stages.values()
    assert list(one.data.all_sources) == ["code", "web"]
    assert list(two.data.all_sources) == ["books", "code"]


def test_several_checkpoints_to_start_from_are_as_many_runs(staged: Path) -> None:
    loaded = load(staged, "stage=decay", "start_from=[a/step-00000010.pt, a/step-00000020.pt]")
    runs = loaded.runs()
    assert [run.first.run_name for run in runs] == ["tiny-step-00000010", "tiny-step-00000020"]
    assert [str(run.first.start_from[0]) for run in runs] == [
        "a/step-00000010.pt",
        "a/step-00000020.pt",
    ]
    assert all(run.resolved["run_name"] == run.first.run_name for run in runs)
    (alone,) = load(staged, "stage=decay", "start_from=a/step-00000010.pt").runs()
    assert alone.first.run_name == "tiny"


@pytest.mark.parametrize(
    ("overrides", "path", "words"),
    [
        (["stages.extend.optimizer.lrr=1"], "stages.extend.optimizer.lrr", "did you mean 'lr'"),
        (["optimizer.lrr=1"], "optimizer.lrr", "did you mean 'lr'"),
        (
            ["stages.extend.data.max_length=96"],
            "stages.extend.batch.size",
            "no whole number of rows",
        ),
        (["stages.extend.duration=0ba"], "stages.extend.duration", "positive"),
        (["stages.extend.seed=3"], "stages.extend.seed", "belongs to the whole run"),
        (["stages.extend.run_name=x"], "stages.extend.run_name", "belongs to the whole run"),
        (["stages.decay.model.init.std=1"], "stages.decay.model.init", "would do nothing"),
        (["stages.decay.stages={}"], "stages.decay.stages", "no stages of its own"),
        (["stages.extend=3"], "stages.extend", "expected a mapping"),
        (["stages=3"], "stages", "expected a mapping"),
        (["duration=3ba"], "duration", "would do nothing: give stages.pretrain.duration"),
        (
            ["stages.pretrain.logging.wandb.project=x", "logging.wandb=null"],
            "logging.wandb",
            "would do nothing: give stages.pretrain.logging.wandb",
        ),
        (["stage=decline", "start_from=x.pt"], "stage", "did you mean 'decay'"),
        (["stage=decay"], "stage", "would begin from random weights"),
        (["stages.extnd.optimizer.lr=1"], "stages.extnd", "no such stage; did you mean 'extend'"),
    ],
)
def test_mistakes_are_told_where_they_are(
    staged: Path, overrides: list[str], path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load(staged, *overrides)
    assert error.value.path == path
    assert words in str(error.value)


def test_what_changes_nothing_from_a_stage_on_is_told(staged: Path) -> None:
    loaded = load(staged, "optimizer.lr=1", "optimizer.weight_decay=1e-3", "data.max_length=128")
    assert loaded.notes("pretrain") == []
    told = [
        "note: optimizer.lr changes nothing from stage decay on; stages.decay.optimizer.lr does"
    ]
    assert loaded.notes("decay") == told


def test_two_checkpoints_of_one_name_need_a_run_each(staged: Path) -> None:
    loaded = load(staged, "stage=decay", "start_from=[a/step-1.pt, b/step-1.pt]")
    with pytest.raises(ConfigError, match="two checkpoints of the same name"):
        loaded.runs()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "model.hidden_size=64",
            "encoder.embedding.tokens.weight is [512, 32] there and [512, 64]",
        ),
        ("model.num_layers=5", "is absent there"),
        ("model.head.tied=false", "head.decoder.weight is absent there"),
        ("model.mlp.activation=silu", None),
        ("model.attention.windows.repeat=[global,32,32]", None),
    ],
)
def test_a_stage_may_change_what_the_weights_can_follow(
    staged: Path, change: str, words: str | None
) -> None:
    loaded = load_recipe(staged, [f"stages.extend.{change}"], planning=True)
    if words is None:
        make_plan(loaded, 1)
        return
    with pytest.raises(ConfigError, match=r"stages\.extend\.model\.") as error:
        make_plan(loaded, 1)
    assert words in str(error.value)


def leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value that a YAML file gives; a list is one value."""
    if not isinstance(node, dict):
        return [path]
    return [leaf for key, value in node.items() for leaf in leaves(value, (*path, key))]


def without(tree: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    copy = dict(tree)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(copy[path[0]], path[1:])
    return copy


@pytest.mark.parametrize("name", ["base", "large"])
def test_every_value_of_the_shipped_recipes_is_used(name: str, tmp_path: Path) -> None:
    """Without it the resolved recipe is another one, or none."""
    folder = REPOSITORY / "yamls"
    tree = yaml.safe_load((folder / f"{name}.yaml").read_text())
    tree["include"] = [str(folder / included) for included in tree["include"]]
    shipped = load_recipe(folder / f"{name}.yaml", [], planning=True)
    for path in leaves(tree):
        file = tmp_path / "changed.yaml"
        file.write_text(yaml.safe_dump(without(tree, path), sort_keys=False))
        try:
            changed = load_recipe(file, [], planning=True)
        except UserError:
            continue
        assert changed != shipped, f"{name}.yaml: {path} does nothing"
