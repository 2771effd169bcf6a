"""What the pages point at is there: places in the code, files, links and headings."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES

_ROOMS = "flexbert|data_prep|tests|benchmarks|yamls|docs"
_PLACE = re.compile(rf"((?:{_ROOMS})/[\w/-]+\.py)::(\w+)(?:\.(\w+))?")
_FILE = re.compile(rf"`((?:{_ROOMS})/[\w/.-]+?\.(?:py|yaml|md|png))`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# Of docs/blocks.md: what a reader is to write.
TO_BE_WRITTEN = {"flexbert/nn/squared_relu.py", "flexbert/nn/differential.py"}


@functools.cache
def defined(file: Path) -> dict[str, set[str]]:
    """Names at a module's top, each with its methods and annotated attributes."""
    names: dict[str, set[str]] = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {
                child.target.id if isinstance(child, ast.AnnAssign) else child.name
                for child in node.body
                if isinstance(child, ast.FunctionDef)
                or (isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name))
            }
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = set()
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id: set() for target in targets if isinstance(target, ast.Name)}
    return names


def problem(file: str, name: str, member: str) -> str | None:
    """Why a place in the code is not there; None if it is."""
    path = REPOSITORY / file
    if not path.is_file():
        return f"no file {file}"
    names = defined(path)
    if name not in names:
        return f"no {name} in {file}"
    return None if not member or member in names[name] else f"no {name}.{member} in {file}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_places_in_the_code_exist(page: Path) -> None:
    problems = [problem(*place) for place in _PLACE.findall(page.read_text())]
    assert [found for found in problems if found] == []


def test_a_place_that_is_not_there_is_found() -> None:
    assert problem("flexbert/nowhere.py", "Name", "") == "no file flexbert/nowhere.py"
    assert problem("flexbert/errors.py", "Nothing", "") == "no Nothing in flexbert/errors.py"
    assert problem("flexbert/errors.py", "ConfigError", "under") is None
    assert "no ConfigError.over" in (problem("flexbert/errors.py", "ConfigError", "over") or "")


def test_the_architecture_answers_questions_with_places() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    answers = text.split("## Questions")[1].split("\n### ")[1:]
    assert len(answers) >= 10
    assert all(_PLACE.search(answer) for answer in answers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(_FILE.findall(page.read_text())) - TO_BE_WRITTEN
    assert sorted(name for name in named if not (REPOSITORY / name).exists()) == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made for the web."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in _LINK.findall(text):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []
