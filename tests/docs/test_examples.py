"""What the pages show is true: YAML decodes, commands are accepted, Python imports."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

import flexbert
from data_prep.cli import command_parser as data_prep_parser
from flexbert import commands as flexbert_commands
from flexbert.errors import UserError
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY
from tests.docs.pages import CodeBlock, code_blocks

Output = pytest.CaptureFixture[str]
RECIPES = REPOSITORY / "yamls"
YAML = code_blocks("yaml")
SHELL = [
    block
    for block in code_blocks("bash", "console", "shell", "sh", "")
    if block.language or block.text.startswith("$ ")
]
PYTHON = code_blocks("python")
# A reason is a sentence's worth of words.
NUM_WORDS = 4
_RUNS_A_RECIPE = re.compile(r"(?:\bmain\.py|\bflexbert plan) \S+\.yaml")


def whole_recipe(fragment: str) -> str:
    """A fragment over base, or a recipe that says itself what it includes."""
    text = textwrap.dedent(fragment)
    if "include:" in text:
        return re.sub(r"((?:models/)?[\w-]+\.yaml)", rf"{RECIPES}/\1", text)
    return f"include: [{RECIPES}/base.yaml]\n{text}"


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.name)
def test_yaml_decodes_against_the_schema(tmp_path: Path, block: CodeBlock) -> None:
    reason = block.reason("no recipe")
    if reason is not None:
        assert len(reason.split()) >= NUM_WORDS, "say why"
        return
    file = tmp_path / "recipe.yaml"
    file.write_text(whole_recipe(block.text))
    assert load_recipe(file, [], planning=True).stages


def test_yaml_that_is_wrong_is_found(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(whole_recipe("data:\n  order: {name: shard_blocks}\n"))
    with pytest.raises(UserError, match=r"data\.order: unknown key"):
        load_recipe(file, [], planning=True)


@pytest.mark.parametrize(
    "block",
    [b for b in YAML if b.text.startswith("include:") and not b.comment],
    ids=lambda block: block.name,
)
def test_recipes_of_the_pages_can_be_planned(
    capsys: Output, tmp_path: Path, block: CodeBlock
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(whole_recipe(block.text))
    assert flexbert_commands.main(["plan", str(file), "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")


def commands(block: CodeBlock) -> list[str]:
    """The commands of a shell block, each on one line; of a console those behind ``$``."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language in ("console", "") or block.text.startswith("$ "):
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip()]


def is_planned(command: str) -> bool:
    """Whether a command's recipe and overrides can be planned in its place."""
    return _RUNS_A_RECIPE.search(command) is not None


def test_there_are_blocks_of_every_kind() -> None:
    assert len(YAML) >= 8
    assert len(SHELL) >= 20
    assert len(PYTHON) >= 3
    assert sum(is_planned(command) for block in SHELL for command in commands(block)) >= 8


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_a_block_of_commands_is_run_or_says_why_not(block: CodeBlock) -> None:
    assert commands(block), "a shell block without a command"
    if not all(is_planned(command) for command in commands(block)):
        reason = block.reason("not run")
        assert reason is not None, "put <!-- not run: reason --> on the line before"
        assert len(reason.split()) >= NUM_WORDS, "say why"


@pytest.mark.parametrize(
    "command",
    [c for block in SHELL for c in commands(block) if is_planned(c)],
)
def test_what_trains_or_plans_can_be_planned(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, trained: Path, command: str
) -> None:
    """Corpora, forecasts and checkpoints that the pages speak of are not there; a model stands for
    one of the last.
    """
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(re.sub(r".*(main\.py|flexbert plan) |--forecast \S+", "", command))
    words = [word for word in words if not word.startswith("data.path=")]
    given = "init_from.checkpoint="
    words = [f"{given}{trained}" if word.startswith(given) else word for word in words]
    words = [re.sub(r"path: [\w/-]+", "path: null", word) for word in words]
    code = flexbert_commands.main(["plan", *words, "data.path=???", "--json"])
    printed = capsys.readouterr()
    if code == 0:
        return
    shown = [b.text for b in SHELL if f"{command}\n{printed.err}" in b.text]
    assert shown, f"{command} ends in {printed.err}"


def problem(command: str) -> str | None:
    """Why a command that is not run cannot be right; None where nothing is wrong with it."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        del words[0]
    match [word.removeprefix(".venv/bin/") for word in words[:3]]:
        case ["flexbert", *_]:
            return _misparsed(flexbert_commands.command_parser(), words[1:])
        case ["python", "-m", "data_prep"]:
            return _misparsed(data_prep_parser(), words[3:])
        case ["python", "-m", "pytest"]:
            paths = [w.partition("::")[0] for w in words if w.startswith("tests/")]
            return next((f"no {path}" for path in paths if not (REPOSITORY / path).exists()), None)
        case ["python", "-m", module] if module.startswith("benchmarks."):
            place = REPOSITORY / module.replace(".", "/")
            script = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
            return _without_options(script, words[3:])
        case ["python", script, *_] if script.endswith(".py"):
            return _without_options(REPOSITORY / script, words[2:])
        case ["make", *_]:
            targets = re.findall(r"^([\w./-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
            return next((f"no target {word}" for word in words[1:] if word not in targets), None)
    return None


def _misparsed(parser: Any, words: list[str]) -> str | None:
    try:
        parser.parse_args(words)
    except UserError as error:
        return str(error)
    return None


def _without_options(script: Path, words: list[str]) -> str | None:
    if not script.is_file():
        return f"no {script.name}"
    options = [word for word in words if word.startswith("--")]
    source = script.read_text()
    return next((f"{script.name} has no {o}" for o in options if f'"{o}"' not in source), None)


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_commands_that_are_not_run_are_accepted_by_their_parser(block: CodeBlock) -> None:
    problems = [problem(command) for command in commands(block) if not is_planned(command)]
    assert [found for found in problems if found] == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("flexbert average runs/x --bets 3 --out a.pt", "--best"),
        ("python -m data_prep corpus --shard 0/2 --tokenizer t --out c text", "--shard"),
        ("python -m benchmarks.nothing", "no nothing.py"),
        ("python -m benchmarks.packing --wrong", "packing.py has no --wrong"),
        ("python -m benchmarks.evidence --wrong", "__main__.py has no --wrong"),
        ("python -m pytest tests/nowhere.py", "no tests/nowhere.py"),
        ("make everything", "no target everything"),
    ],
)
def test_commands_that_are_wrong_are_found(command: str, expected: str) -> None:
    assert expected in (problem(command) or "")


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_what_python_on_a_page_imports_is_there(block: CodeBlock) -> None:
    tree = ast.parse(block.text)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names: dict[str, Any] = {"flexbert": flexbert}
    exec(compile(ast.Module(imports, []), block.name, "exec"), names)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "flexbert"
        ):
            assert hasattr(names["flexbert"], node.attr)
