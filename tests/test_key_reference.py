"""The page of all keys is what the code says, and complete."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from flexbert.config.recipe import Recipe
from flexbert.key_reference import meaning
from tests.config.declarations import Declared, declarations
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "keys.md").read_text()
KEYS = list(declarations(Recipe))


def test_the_page_is_up_to_date() -> None:
    # In a process of its own: tests register components too.
    command = [sys.executable, "-m", "flexbert.key_reference"]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert printed.stdout == PAGE, "run `make reference`"


@pytest.mark.parametrize("declared", KEYS, ids=lambda d: f"{d.cls.__name__}.{d.name}")
def test_every_key_stands_on_the_page_with_meaning_and_role(declared: Declared) -> None:
    said = meaning(declared.cls, declared.name)
    assert said, f"{declared.cls.__name__}'s docstring has no Attributes entry {declared.name}"
    is_component = hasattr(declared.cls, "family")
    name = declared.name if is_component else declared.path
    entry = (
        re.escape(f"- `{name}`: {said}\\\n")
        + rf"  .*; (required|default.*); \*\*{declared.key.role}\*\*"
    )
    assert re.search(entry, PAGE)


def test_the_pages_links_lead_to_its_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#(.*?)\)", PAGE))
    assert links
    assert links <= anchors


def test_nothing_on_the_page_is_long() -> None:
    longest = max(PAGE.splitlines(), key=len)
    assert len(longest) <= 400, longest
