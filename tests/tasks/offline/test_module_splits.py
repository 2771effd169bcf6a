"""Nothing of one split is in another."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from flexbert.tasks.offline.definitions import Module
from flexbert.tasks.offline.module_splits import SPLITS, split_modules, split_of
from tests.tasks.offline.small_packages import PACKAGES, modules_of, words, write_packages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    write_packages(site)
    return site


def keys(modules: list[Module]) -> set[str]:
    return {one.key for module in modules for one in module.definitions}


def test_modules_are_divided_by_name_alone(site: Path) -> None:
    modules = modules_of(site)
    splits = split_modules(modules, [])
    assert tuple(splits) == SPLITS
    names = {split: [module.name for module in own] for split, own in splits.items()}
    assert sorted(name for own in names.values() for name in own) == sorted(
        module.name for module in modules
    )
    for split, own in names.items():
        assert own == sorted(own)
        assert {split_of(name) for name in own} == {split}
    assert split_modules(modules[::-1], []) == splits
    few = split_modules(modules_of(site, PACKAGES[:2]), [])
    assert all(set(names[split]) >= {module.name for module in few[split]} for split in SPLITS)


def test_the_shares_are_70_15_and_15_percent() -> None:
    splits = [split_of(f"package/module_{number}.py") for number in range(20_000)]
    for split, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        assert abs(splits.count(split) / 20_000 - share) < 0.01


def test_a_copy_with_names_changed_is_in_one_split(tmp_path: Path) -> None:
    write_packages(tmp_path, ["scipy"])
    for number in range(30):
        for module in (tmp_path / "scipy").glob("module_0[0-4].py"):
            copy = tmp_path / "scipy" / f"copy_{number}_{module.name}"
            copy.write_text(module.read_text().replace("Compute", "Give").replace("> ", "< "))
    modules = modules_of(tmp_path, ["scipy"])
    copies = [module for module in modules if "copy" in module.name]
    assert {split_of(module.name) for module in copies} == set(SPLITS)
    splits = split_modules(modules, [])
    assert not any("copy" in key for key in keys(splits["validation"]) | keys(splits["test"]))
    # Copies in training are near, but not equal.
    assert any("copy" in key for key in keys(splits["train"]))


def test_what_the_corpus_has_is_in_no_split(site: Path) -> None:
    draw = random.Random(3)
    own = sorted((site / "rich").glob("*.py"))
    corpus = [" ".join([*words(draw, 50), path.read_text()]) for path in own]
    splits = split_modules(modules_of(site), corpus)
    left = set().union(*(keys(modules) for modules in splits.values()))
    assert {key.partition("/")[0] for key in left} == set(PACKAGES) - {"rich"}
    assert not any(m.comments for own in splits.values() for m in own if m.package == "rich")


def test_a_vendored_copy_of_a_package_adds_nothing(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site")
    shutil.copytree(site / "scipy", tmp_path / "site" / "sympy" / "_scipy")
    before = split_modules(modules_of(site), [])
    after = split_modules(modules_of(tmp_path / "site"), [])
    assert sum(len(keys(own)) for own in after.values()) <= sum(
        len(keys(own)) for own in before.values()
    )
    contents = [
        {one.code for module in own for one in module.definitions} for own in after.values()
    ]
    assert contents[0].isdisjoint(contents[1] | contents[2])
    assert contents[1].isdisjoint(contents[2])
