"""Recipes changed at random: each is planned, or refused in one line.

``FLEXBERT_FUZZ_EXAMPLES=1000 python -m pytest tests/fuzz/test_recipes.py`` tries as many new ones.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flexbert.commands import main
from flexbert.config.recipe_files import read_tree
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.fuzz.mutations import JUNK, TEXTS, mutated, mutated_bytes
from tests.fuzz.outcomes import exit_of, fuzz_settings, refusal

RECIPES = [*sorted((REPOSITORY / "yamls").glob("*.yaml")), TINY_RECIPE]
TREES = [read_tree(path) for path in RECIPES]
TREE = st.sampled_from(TREES).flatmap(lambda tree: mutated(small(tree)))
# fmt: off
TOKENS = st.sampled_from([
    b"&a ", b"*a", b"<<: *a", b"!!binary ", b"!!set ", b"!!python/object:os.system ", b"? ", b"%",
    b"[" * 3000, b"{a: " * 3000, b"9" * 5000, b"2001-99-99", b"!!timestamp ", b".inf", b".nan",
    b"\t", b"\x00", b"\xff", b"|", b"'", b'"', b": ", b"- ", b"\n", b"${", b"}", b"???", b"[]",
])
# fmt: on


def small(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe that plans without corpus and checkpoint, so that more can be refused."""
    tree = copy.deepcopy(tree)
    if "path" in tree.get("data", {}):
        tree["data"]["path"] = "???"
    if "model" not in tree:
        del tree["init_from"]
        tree["model"] = read_tree(TINY_RECIPE)["model"]
        tree["data"]["max_length"] = 128
    return tree


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "recipe.yaml"


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped recipes with all that they include, to be written beside."""
    folder = tmp_path_factory.mktemp("copies")
    for part in ("yamls", TINY_RECIPE.parent.relative_to(REPOSITORY)):
        shutil.copytree(
            REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("*.py", "__pycache__")
        )
    return folder


def write(file: Path, tree: Any) -> bool:
    """Whether YAML can write the tree, which is then in the file."""
    try:
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    except (ValueError, yaml.YAMLError):  # 5,000 digits, half a character
        return False
    return True


@pytest.mark.parametrize("index", range(len(RECIPES)))
def test_recipes_plan_as_they_are(index: int, file: Path) -> None:
    assert write(file, small(TREES[index]))
    assert exit_of(main, "plan", file) == 0


@pytest.mark.slow
@fuzz_settings(30)
@given(TREE)
def test_a_changed_recipe_is_planned_or_refused(file: Path, tree: Any) -> None:
    if write(file, tree) and refusal(lambda: load_recipe(file, [], planning=True)) is None:
        exit_of(main, "plan", file)


@st.composite
def changed_files(draw: st.DrawFn) -> tuple[Path, bytes]:
    """A recipe's place in the repository, and what it might hold."""
    path = draw(st.sampled_from(RECIPES))
    return path.relative_to(REPOSITORY), draw(mutated_bytes(path.read_bytes(), TOKENS))


@pytest.mark.slow
@fuzz_settings(10)
@given(changed_files())
def test_a_changed_file_is_planned_or_refused(copies: Path, changed: tuple[Path, bytes]) -> None:
    place, data = changed
    file = (copies / place).with_name("changed.yaml")
    file.write_bytes(data)
    if refusal(lambda: load_recipe(file, [], planning=True)) is None:
        exit_of(main, "plan", file)


@fuzz_settings(60)
@given(
    st.sampled_from(["model", "data.remote", "optimizer.name", "stages", "a.b", "plugins", "x."]),
    st.one_of(TEXTS, JUNK.map(str), TOKENS.map(lambda token: token.decode("latin-1"))),
)
def test_any_override_is_taken_or_refused(key: str, value: str) -> None:
    refusal(lambda: load_recipe(TINY_RECIPE, [f"{key}={value}"], planning=True))
