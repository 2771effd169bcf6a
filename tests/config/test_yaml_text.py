"""YAML of others: bounded in length, depth and what its aliases stand for."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.config.recipe_files import interpolate, overrides_tree, read_tree
from flexbert.config.yaml_text import (
    MOST_BYTES,
    MOST_LEVELS,
    read_value,
    read_yaml,
    value_text,
)
from flexbert.errors import ConfigError, UserError

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
)
HOSTILE = {
    "deep lists": "a: " + "[" * 3000 + "]" * 3000,
    "deep mappings": "{a: " * 3000 + "}" * 3000,
    "deep lists that do not end": "[" * 100_000,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(500)),
    "billion laughs": LAUGHS,
    "deep aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60)),
    "an alias of itself": "a: &a [*a]",
    "an alias of nothing": "a: *b",
    "too long": "a: " + "x" * MOST_BYTES,
    "many digits": "a: " + "9" * 5000,
    "many hexadecimal digits": "a: 0x" + "f" * 5000,
    "a large integer": "a: {b: [1, 9223372036854775808]}",
    "a date": "a: {b: !!timestamp 2001-01-01}",
    "no date": "a: !!timestamp 2001-99-99",
    "a tag without a value": "a: !!timestamp",
    "a tag of another value": "a: !!bool x",
    "a number that is none": "a: !!float x",
    "a tag of a mapping": "a: !!omap x",
    "a set": "a: !!set {x, y}",
    "bytes": "a: !!binary aGVsbG8=",
    "an object": "a: !!python/object/apply:os.system [id]",
    "a list for a key": "? [a, b]\n: 1",
    "a control character": "a: \x01",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_one_line_at_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    begin = time.monotonic()
    with pytest.raises(UserError) as caught:
        read_tree(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).isprintable()
    assert time.monotonic() - begin < 20
    if not text.startswith("?"):
        with pytest.raises(UserError):
            overrides_tree([f"x={{{text}}}" if text.startswith("a:") else f"x={text}"])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a: {b: [1, 9223372036854775808]}", "a.b.1"),
        ("a: {b: [x, !!binary aGVsbG8=]}", "a.b.1"),
        ("a: {b: !!timestamp 2001-01-01}", "a.b"),
    ],
)
def test_a_value_that_no_recipe_holds_is_named(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text)
    assert caught.value.path == path


def test_what_is_within_the_bounds_is_read() -> None:
    deep = "[" * (MOST_LEVELS - 1) + "]" * (MOST_LEVELS - 1)
    node = read_yaml(f"a: {deep}")
    for level in itertools.count(1):
        node = node["a"] if level == 1 else node[0]
        if not node:
            break
    assert level == MOST_LEVELS - 1
    assert read_yaml("a: &x {b: [1, 2]}\nc: *x") == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert read_value("9223372036854775807") == 2**63 - 1
    assert read_value("{a: .nan}")["a"] != read_value("1")


@pytest.mark.parametrize("text", ["", "x", "1e-3", "null", "[1, a]", "{a: {b: 1}}", "a=b", "'[x'"])
def test_values_of_overrides_are_those_of_yaml(text: str) -> None:
    # PyYAML alone wants 1.0e-3.
    assert read_value(text) == {"1e-3": 1e-3}.get(text, yaml.safe_load(text))


@pytest.mark.parametrize(
    "pair", [".".join("a" * 3000) + "=1", "a={" + ".".join("b" * 100) + ": 1}"]
)
def test_dotted_keys_are_as_deep_as_nodes(pair: str) -> None:
    with pytest.raises(UserError, match="levels deep"):
        overrides_tree([pair])


@pytest.mark.parametrize(
    "doubled", ["${{a{0}}}${{a{0}}}", {"x": "${{a{0}}}", "y": "${{a{0}}}"}, ["${{a{0}}}"] * 2]
)
def test_references_to_references_are_bounded(doubled: Any) -> None:
    def at(node: Any, number: int) -> Any:
        if isinstance(node, str):
            return node.format(number)
        if isinstance(node, dict):
            return {key: at(item, number) for key, item in node.items()}
        return [at(item, number) for item in node]

    tree = {"a0": "laugh"} | {f"a{n}": at(doubled, n - 1) for n in range(1, 40)}
    with pytest.raises(ConfigError, match="larger than any recipe"):
        interpolate(tree)
    few = {key: tree[key] for key in list(tree)[:5]}
    assert interpolate(few)["a0"] == "laugh"


def test_references_in_a_circle_are_one_line() -> None:
    with pytest.raises(ConfigError):
        interpolate({"a": "${b}", "b": "${a}"})


def test_includes_have_an_end(tmp_path: Path) -> None:
    for n in range(100):
        (tmp_path / f"{n}.yaml").write_text(f"include: [{n + 1}.yaml]\n")
    with pytest.raises(UserError, match="is included through more than"):
        read_tree(tmp_path / "0.yaml")
    (tmp_path / "x.yaml").write_text("include: [[1]]\n")
    with pytest.raises(UserError, match="expected a list of files"):
        read_tree(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "value",
    [
        "gelu",
        "",
        "1e-3",
        "on",
        3,
        1e-4,
        None,
        True,
        [1, "a, b"],
        {"a": {"b": None}},
        "a: b",
        "a\nb\n\n c",
    ],
)
def test_a_value_reads_back_as_it_is(value: object) -> None:
    text = value_text(value)
    assert "\n" not in text
    assert yaml.safe_load(text) == read_value(text) == value
