"""The sweeps that docs/sweeps.md shows are sweeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flexbert.sweeps.sweep_file import read_sweep
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "sweeps.md").read_text()
SHOWN = re.findall(r"<!-- no recipe: a sweep.*?-->\n```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_some() -> None:
    assert len(SHOWN) >= 3


@pytest.mark.parametrize("text", SHOWN)
def test_a_sweep_of_the_page_can_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "yamls").symlink_to(REPOSITORY / "yamls")
    # Bases are next to the file, so this one stands where the page's would.
    (folder := tmp_path / "own").mkdir()
    (folder / "shown.yaml").write_text(text.replace("base: ../", "base: ../yamls/"))
    assert read_sweep(folder / "shown.yaml").points
