"""What follows from the roles of keys: names and values find their declarations."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.config.data import SourceConfig, UpsampleConfig
from flexbert.config.encode import encode
from flexbert.config.fields import (
    COMPUTATION,
    FIRST_STAGE,
    FUNCTION,
    OPERATIONAL,
    ORDER,
    RUN,
    Role,
    Scope,
)
from flexbert.config.keys import leaves, role_of
from flexbert.config.recipe import Recipe
from flexbert.config.tree import flatten
from flexbert.errors import ConfigError, UserError
from flexbert.recipes import load_recipe
from flexbert.train.run_folder import refuse_changed_recipe
from tests.config.declarations import declarations
from tests.conftest import REPOSITORY, TINY_RECIPE, completed
from tests.outside import forgotten_afterwards, write_file


@cache
def roles() -> dict[str, Role]:
    """Every key with its role, the strictest where the members of a family differ."""
    found: dict[str, Role] = {}
    for declared in declarations(Recipe):
        other = found.get(declared.path, declared.key.role)
        found[declared.path] = declared.key.role.stricter(other)
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("where", ["", "stages.some."], ids=["recipe", "stage"])
def test_a_run_resumes_with_another_value_as_its_role_allows(where: str) -> None:
    folder = Path("runs/x")
    assert set(roles().values()) == set(Role)
    for declared, role in roles().items():
        path = where + declared.replace("*", "some")
        old, new = nested(path, 1), nested(path, 2)
        if role is OPERATIONAL:
            refuse_changed_recipe(folder, old, new)
            continue
        with pytest.raises(UserError) as error:
            refuse_changed_recipe(folder, old, new)
        assert f"changed: {path} (1 -> 2)." in str(error.value)
        assert ("data.accept_changed_order=true" in str(error.value)) == (role is ORDER), path
        if role is ORDER:
            refuse_changed_recipe(folder, old, new, accept_changed_order=True)
        else:
            with pytest.raises(UserError):
                refuse_changed_recipe(folder, old, new, accept_changed_order=True)


def test_outside_of_data_and_model_only_these_are_operational() -> None:
    """Those of data and model are seen in the rows and the logits that they make."""
    operational = {path for path, role in roles().items() if role is OPERATIONAL}
    nodes = ("evaluation", "checkpoints", "logging", "timeouts")
    # It decides by what is measured how long a stage is.
    computes = {path for path in roles() if path.startswith("evaluation.early_stopping")}
    assert {path for path in roles() if path.startswith(nodes)} - computes <= operational
    assert not computes & operational
    assert {p for p in operational if not p.startswith((*nodes, "data.", "model."))} == {
        *("run_name", "runs_folder", "compile", "batch.microbatch_rows"),
        # When a run stops, not what it computes until then.
        *("health.max_skipped", "health.spikes.max_roll_backs"),
        # By name; train.plugins compares their versions.
        *("plugins", "accept_changed_plugins"),
    }


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("optimizer.name", COMPUTATION),
        ("data.sampler.name", ORDER),
        ("model.mlp.name", FUNCTION),
        ("model.init.name", COMPUTATION),
        ("model.layers.0-1.mlp.dropout", COMPUTATION),
        ("model.attention.rope.theta.global", FUNCTION),
        ("data.sources.web.upsample.lengths.4096", ORDER),
        ("data.sources.web.path", OPERATIONAL),
        # Of another version, or of a plugin that says nothing of it: as the node that holds it.
        ("logging.colours", OPERATIONAL),
        ("data.shuffle", ORDER),
        ("model.mlp.experts", FUNCTION),
        ("learning_rate", FUNCTION),
    ],
)
def test_a_key_is_found_by_its_name(path: str, role: Role) -> None:
    assert role_of(Recipe, path) is role


@pytest.mark.parametrize(
    "recipe", sorted((REPOSITORY / "yamls").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_leaves_of_a_recipe_are_what_is_written_of_it(recipe: Path, trained: Path) -> None:
    loaded = load_recipe(recipe, completed(recipe, trained), planning=True)
    for stage in loaded.stages.values():
        found = list(leaves(stage))
        assert {leaf.path: leaf.value for leaf in found} == flatten(encode(stage))
        # By their configs, and by their names alone.
        assert {leaf.path: leaf.role for leaf in found} == {
            leaf.path: role_of(Recipe, leaf.path) for leaf in found
        }


def test_the_leaves_of_a_mixture_are_those_of_its_sources() -> None:
    source = SourceConfig(weight=2.0, upsample=UpsampleConfig(lengths={"64": 3.0}))
    found = {leaf.path: leaf for leaf in leaves(source, "data.sources.web")}
    assert found["data.sources.web.upsample.lengths.64"].value == 3.0
    assert found["data.sources.web.upsample.lengths.64"].role is ORDER
    assert found["data.sources.web.path"].role is OPERATIONAL


# Another value of every key that is not a stage's own; all other keys may change in any stage.
OTHERS: dict[Scope, dict[str, Any]] = {
    RUN: {
        "run_name": "other",
        "runs_folder": "elsewhere",
        "seed": 6,
        "deterministic": True,
        "plugins": ["./mine.py"],
        "accept_changed_plugins": True,
        "stage": "two",
        "start_from": ["some.pt"],
        "init_from": {"checkpoint": "some.pt"},
        "timeouts": {"peer": 60.0},
        "logging.wandb": {"project": "some"},
        "logging.tensorboard": True,
        "evaluation.suite": {"file": "some.yaml"},
    },
    FIRST_STAGE: {"model.init": {"name": "normal"}},
}


@pytest.mark.parametrize("scope", [RUN, FIRST_STAGE])
def test_a_stage_changes_only_its_own_keys(scope: Scope, tmp_path: Path) -> None:
    assert {d.path for d in declarations(Recipe) if d.key.scope is scope} == set(OTHERS[scope])
    words = {RUN: "belongs to the whole run", FIRST_STAGE: "only the first stage makes a new model"}
    write_file(tmp_path)
    for path, value in OTHERS[scope].items():
        stages = {"one": {}, "two": nested(path, value)}
        file = tmp_path / "recipe.yaml"
        file.write_text(
            yaml.safe_dump({"include": [str(TINY_RECIPE)], "stages": stages}, sort_keys=False)
        )
        with forgotten_afterwards(), pytest.raises(ConfigError, match=words[scope]) as error:
            load_recipe(file, [], planning=True)
        assert error.value.path == f"stages.two.{path}"
