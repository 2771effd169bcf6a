"""Recipe files: includes, overrides, merging by name, interpolation."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from flexbert.config.recipe_files import (
    complete_layers,
    interpolate,
    overrides_tree,
    read_tree,
)
from flexbert.config.tree import expand_dotted, merge
from flexbert.errors import ConfigError, UserError
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_includes_merge_in_order_and_own_keys_win(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml", "a: 1\nb: {x: 1, y: 1}\nc: [1, 2]\n")
    write(tmp_path, "parts/two.yaml", "include: [three.yaml]\nb: {y: 2}\n")
    write(tmp_path, "parts/three.yaml", "d: 3\nb: {y: 3, z: 3}\n")
    top = write(tmp_path, "top.yaml", "include: [one.yaml, parts/two.yaml]\na: 9\nc: [7]\n")
    assert read_tree(top) == {"a": 9, "b": {"x": 1, "y": 2, "z": 3}, "c": [7], "d": 3}


def test_dotted_keys_are_nodes_in_files_and_overrides_alike(tmp_path: Path) -> None:
    file = write(tmp_path, "r.yaml", "optimizer: {lr: 1, eps: 2}\nmodel.attention.rope.theta: 5\n")
    tree = merge(
        read_tree(file), overrides_tree(["optimizer.lr=3e-4", "model.attention.bias=true"])
    )
    assert tree == {
        "optimizer": {"lr": 3e-4, "eps": 2},
        "model": {"attention": {"rope": {"theta": 5}, "bias": True}},
    }


def test_dotted_keys_expand_at_every_depth() -> None:
    assert expand_dotted({"a.b": {"c.d": 1}, "a": {"e": [{"f.g": 2}]}}) == {
        "a": {"b": {"c": {"d": 1}}, "e": [{"f": {"g": 2}}]}
    }


def test_another_name_replaces_the_node_and_the_same_name_merges() -> None:
    base = {"norm": {"name": "layernorm", "eps": 1e-5, "bias": False}}
    assert merge(base, {"norm": {"eps": 1e-6}})["norm"] == {
        "name": "layernorm",
        "eps": 1e-6,
        "bias": False,
    }
    assert merge(base, {"norm": {"name": "layernorm", "bias": True}})["norm"]["eps"] == 1e-5
    assert merge(base, {"norm": {"name": "rmsnorm"}})["norm"] == {"name": "rmsnorm"}


def test_an_override_of_name_and_fields_builds_one_new_node() -> None:
    base = {"norm": {"name": "layernorm", "bias": False}}
    over = overrides_tree(["norm.name=rmsnorm", "norm.eps=1e-6"])
    assert merge(base, over) == {"norm": {"name": "rmsnorm", "eps": 1e-6}}


def test_a_layers_part_says_only_what_differs_from_the_models_own() -> None:
    tree = {
        "model": {
            "mlp": {"name": "glu", "intermediate_size": 8, "bias": True},
            "attention": {"name": "multi_head", "num_heads": 4},
            "layers": {
                "0": {"mlp": {"intermediate_size": 6}},
                "-1": {"mlp": {"name": "mlp", "intermediate_size": 9}},
            },
        }
    }
    layers = complete_layers(tree)["model"]["layers"]
    assert layers["0"] == {"mlp": {"name": "glu", "intermediate_size": 6, "bias": True}}
    assert layers["-1"] == {"mlp": {"name": "mlp", "intermediate_size": 9}}
    assert complete_layers(complete_layers(tree)) == complete_layers(tree)


def test_a_recipe_without_a_loss_can_be_overridden_in_it() -> None:
    loaded = load_recipe(TINY_RECIPE, ["loss.z_loss=1e-4"], planning=True)
    assert loaded.resolved["loss"] == {
        "name": "cross_entropy",
        "label_smoothing": 0.0,
        "z_loss": 1e-4,
    }
    with pytest.raises(ConfigError, match=r"loss.zloss: unknown key; did you mean 'z_loss'"):
        load_recipe(TINY_RECIPE, ["loss.zloss=1e-4"], planning=True)


def test_an_unquoted_interpolation_is_told_where_it_stands(tmp_path: Path) -> None:
    file = write(tmp_path, "r.yaml", "a: 1\nb: {norm: ${a}, c: 2}\n")
    with pytest.raises(UserError, match=r"line 2, column \d+: .*in quotes"):
        read_tree(file)


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("k=3", 3),
        ("k=1e-5", 1e-5),
        ("k=160_000", 160_000),
        ("k=50_000tok", "50_000tok"),
        ("k=null", None),
        ("k=true", True),
        ("k=[1, 2]", [1, 2]),
        ("k={a: 1}", {"a": 1}),
        ("k=a=b", "a=b"),
        ("k=/data/x y", "/data/x y"),
    ],
)
def test_override_values_are_yaml(pair: str, value: object) -> None:
    assert overrides_tree([pair]) == {"k": value}


@pytest.mark.parametrize("pair", ["optimizer.lr", "=3", "a..b=3", ".a=3", "a=[1, 2"])
def test_what_is_no_override_is_refused_by_its_text(pair: str) -> None:
    with pytest.raises(UserError) as error:
        overrides_tree([pair])
    assert repr(pair) in str(error.value)


def test_interpolation_reaches_whole_nodes_and_sees_overrides() -> None:
    tree = {"model": {"norm": {"name": "x", "eps": 1}, "final": "${model.norm}"}}
    tree = merge(tree, overrides_tree(["model.norm.eps=2"]))
    assert interpolate(tree)["model"]["final"] == {"name": "x", "eps": 2}


def test_a_failing_interpolation_names_its_key() -> None:
    with pytest.raises(ConfigError) as error:
        interpolate({"model": {"final": "${model.nrom}"}})
    assert "model.final" in str(error.value)
    assert "nrom" in str(error.value)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "a: 1")
    with pytest.raises(UserError, match=r"bsae\.yaml: no such file.*'base\.yaml'"):
        read_tree(tmp_path / "bsae.yaml")


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "include: [b.yaml]")
    write(tmp_path, "b.yaml", "include: [a.yaml]")
    with pytest.raises(UserError, match="includes itself"):
        read_tree(a)


@pytest.mark.parametrize("text", ["a: [1,", "- 1\n- 2", "include: other.yaml", "a: 1\na: 2"])
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, "bad.yaml", text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        read_tree(file)


@pytest.mark.parametrize("pairs", itertools.permutations(["k.name=b", "k.x=1", "other.y=2"]))
def test_overrides_of_a_node_and_its_name_may_come_in_any_order(pairs: tuple[str, ...]) -> None:
    assert overrides_tree(pairs) == {"k": {"name": "b", "x": 1}, "other": {"y": 2}}


def test_of_several_values_of_a_key_the_last_one_counts() -> None:
    assert overrides_tree(["k.name=a", "k.x=1", "k.name=b"]) == {"k": {"name": "b", "x": 1}}
    nodes = ["k={name: a, x: 1}", "k={name: b, y: 2}"]
    assert overrides_tree(nodes) == {"k": {"name": "b", "y": 2}}
