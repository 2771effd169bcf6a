"""Which packages and files are read, and what the fingerprint stands for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_prep.demo import PACKAGES as CORPUS_PACKAGES
from flexbert.tasks.offline import installed
from flexbert.tasks.offline.installed import (
    DISTRIBUTIONS,
    installed_versions,
    made_of,
    source_files,
)
from tests.conftest import REPOSITORY
from tests.tasks.offline.small_packages import NUM_MODULES, PACKAGES, write_package, write_packages


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write_packages(tmp_path)
    return tmp_path


def test_packages_are_locked_and_none_is_of_the_quickstarts_corpus() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (REPOSITORY / "requirements.lock").read_text(), re.M))
    assert set(DISTRIBUTIONS.values()) <= locked
    assert CORPUS_PACKAGES
    assert set(CORPUS_PACKAGES).isdisjoint(DISTRIBUTIONS)


def test_versions_are_those_of_the_packages_that_are_there(site: Path) -> None:
    assert installed_versions([str(site)]) == dict.fromkeys(PACKAGES, "1.0")
    assert installed_versions([str(site / "nowhere")]) == {}
    (site / "torch").mkdir()  # without __init__.py, as an uninstalled package may leave it
    (site / "torch.py").touch()
    assert "torch" not in installed_versions([str(site)])


def test_the_fingerprint_changes_with_what_rows_are_made_of(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = installed_versions([str(site)])
    before = made_of(versions)
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert made_of(dict(reversed(versions.items()))) == before
    fingerprints = {before, made_of(versions | {"scipy": "1.1"}), made_of({"scipy": "1.0"})}
    monkeypatch.setattr(installed, "GENERATOR_VERSION", 0)
    fingerprints.add(made_of(versions))
    monkeypatch.setattr("platform.python_version", lambda: "3.12.99")
    fingerprints.add(made_of(versions))
    assert len(fingerprints) == 5


def test_tests_and_copies_of_other_packages_are_left_out(site: Path) -> None:
    names = ("tests/one.py", "_vendor/two.py", "sub/externals/three.py", "test_four.py", "five.txt")
    for name in (*names, "sub/kept.py"):
        path = site / "scipy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    found = [file.module for file in source_files("scipy", [str(site)])]
    assert "scipy/sub/kept.py" in found
    assert len(found) == NUM_MODULES + 1
    assert {f"scipy/{name}" for name in names}.isdisjoint(found)


def test_files_are_the_same_in_any_folder_and_those_with_see_also_come_first(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "other", "scipy", "2.0")
    for number in range(10):
        for root in (site, tmp_path / "other"):
            (root / "scipy" / f"plain{number}.py").write_text("x = 1\n")
    order = [file.module for file in source_files("scipy", [str(site)])]
    assert order == [file.module for file in source_files("scipy", [str(tmp_path / "other")])]
    assert order != sorted(order)
    assert all("plain" in name for name in order[NUM_MODULES:])
    size = sum((site / name).stat().st_size for name in order[:5])
    monkeypatch.setattr(installed, "MOST_BYTES", size)
    few = [file.module for file in source_files("scipy", [str(site)])]
    assert few[:5] == order[:5]
    assert sum((site / name).stat().st_size for name in few) <= size


def test_a_package_that_is_not_there_has_no_files(site: Path) -> None:
    assert list(source_files("torch", [str(site)])) == []
