"""Names, keys and pages use the words of docs/glossary.md, each in one meaning."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY

PACKAGES = ("flexbert", "data_prep")
SOURCES = sorted(file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py"))
YAMLS = sorted((REPOSITORY / "yamls").rglob("*.yaml"))
TEXTS = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *YAMLS,
)
GLOSSARY = REPOSITORY / "docs" / "glossary.md"
# Files and folders that say ``--shard`` of a sweep's runs.
OF_SWEEPS = {"sweeps", "sweeps.md", "run_sweep.py", "commands.md"}


class Replaced(NamedTuple):
    """A word that the glossary replaced.

    Attributes:
        word: as a part of a name, or a word of a text.
        instead: what to say.
        allowed: where it is another word: parts of paths, or phrases around it.
    """

    word: str
    instead: str
    allowed: tuple[str, ...] = ()


REPLACED = (
    Replaced("piece", "chunk", ("data_prep/",)),
    Replaced("ragged", "packed"),
    Replaced("ledger", "provenance"),
    Replaced("stretch", "run segment"),
    Replaced("accounting", "FLOPs, MFU, peak"),
    Replaced("matrix_rate", "peak"),
    Replaced(
        "segment",
        "sequence",
        # A run segment has the word to itself in its room; the other is a data structure.
        ("flexbert/provenance/", "flexbert/train/stage_training.py", "run segment", "segment tree"),
    ),
)
# Names that were a key, and keys that were given another name.
OLD_KEYS = {"data.order": "data.sampler", "data.window": "data.packing_window"}
# Definitions of packages that may have a name in common, and why.
SAME_NAME = {
    "main": "every command line has one",
    "command_parser": "every command line has one",
    "add_arguments": "every command has one",
    "run": "every command has one",
    "page": "every generated page has one",
    "attend": "each attention backend has one, and the choice among them",
    "load_model": "the package's own, imported when it is called",
    "save_model": "the package's own, imported when it is called",
    "load_recipe": "with all components registered, and without",
    "to_ours": "both directions of each table of names",
    "to_theirs": "both directions of each table of names",
}
# Files of one name, and why.
SAME_FILE = {
    "__init__.py": "Python's",
    "__main__.py": "Python's",
}


def words_of(name: str) -> list[str]:
    """A name's words in lower case: of ``RunSegment`` and of ``run_segments``."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name) if word]


def has_word(name: str, word: str) -> bool:
    """Whether a name is made with a word, its plural or two words with ``_`` between them."""
    joined = f"_{'_'.join(words_of(name))}_"
    return any(f"_{form}_" in joined for form in (word, f"{word}s", f"{word}es"))


def names_in(source: str, *, local: bool = True) -> Iterator[str]:
    """Classes, functions, arguments and attributes, and variables that are local or a module's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif local and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def prose(source: str) -> str:
    """The docstrings, messages and comments of a module: its text but for names."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    ]
    comments = re.findall(r"(?:^|\s)# (.*)$", source, re.MULTILINE)
    return "\n".join([*strings, *comments])


def found_in_text(text: str, replaced: Replaced) -> list[str]:
    """Lines of a text that use a replaced word."""
    for phrase in replaced.allowed:
        spaced = r"[\s_-]+".join(phrase.split())
        text = re.sub(rf"{spaced}s?", "", text, flags=re.IGNORECASE)
    pattern = rf"\b{replaced.word.replace('_', '[ _]')}(s|es)?\b"
    return [line for line in text.splitlines() if re.search(pattern, line, re.IGNORECASE)]


def is_allowed(file: Path, replaced: Replaced) -> bool:
    path = str(file.relative_to(REPOSITORY))
    return any(path.startswith(place) for place in replaced.allowed)


@pytest.mark.parametrize("replaced", REPLACED, ids=lambda replaced: replaced.word)
def test_no_name_is_made_with_a_replaced_word(replaced: Replaced) -> None:
    found = {
        f"{file.relative_to(REPOSITORY)}: {name}"
        for file in SOURCES
        if not is_allowed(file, replaced)
        for name in (file.stem, *names_in(file.read_text()))
        if has_word(name, replaced.word)
    }
    assert sorted(found) == [], f"say {replaced.instead}"


@pytest.mark.parametrize("replaced", REPLACED, ids=lambda replaced: replaced.word)
def test_no_docstring_message_or_comment_uses_a_replaced_word(replaced: Replaced) -> None:
    found = [
        f"{file.relative_to(REPOSITORY)}: {line}"
        for file in SOURCES
        if not is_allowed(file, replaced)
        for line in found_in_text(prose(file.read_text()), replaced)
    ]
    assert found == [], f"say {replaced.instead}"


@pytest.mark.parametrize("replaced", REPLACED, ids=lambda replaced: replaced.word)
def test_no_page_uses_a_replaced_word(replaced: Replaced) -> None:
    """The glossary itself explains some: those of data_prep, and the table of what was replaced."""
    found = []
    for file in TEXTS:
        text = file.read_text()
        if file == GLOSSARY:
            text = text.split("## Words that were replaced")[0]
            text = "\n".join(line for line in text.splitlines() if "`data_prep`" not in line)
            text = re.sub(r"^- \*\*piece\*\*.*$", "", text, flags=re.MULTILINE)
        found += [f"{file.name}: {line}" for line in found_in_text(text, replaced)]
    assert found == [], f"say {replaced.instead}"


def test_replaced_words_are_found() -> None:
    segment = REPLACED[-1]
    assert has_word("RunSegment", "segment")
    assert has_word("segment_ids", "segment")
    assert has_word("matrix_rates", "matrix_rate")
    assert not has_word("segmented", "segment")
    assert set(names_in("class A:\n    def f(self, piece): self.ragged = x = 1")) >= {
        "A",
        "f",
        "piece",
        "ragged",
        "x",
    }
    assert found_in_text("A ledger.", Replaced("ledger", "provenance")) == ["A ledger."]
    assert found_in_text("by a segment tree, a run\nsegment", segment) == []
    assert found_in_text("padding in segments", segment) == ["padding in segments"]
    assert "a comment" in prose("x = 1  # a comment")


def keys_of(tree: object, path: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{path}{key}"
            yield from keys_of(value, f"{path}{key}.")


def test_no_key_has_an_old_name() -> None:
    loaded = load_recipe(REPOSITORY / "yamls" / "base.yaml", [], planning=True)
    keys = set(keys_of(loaded.resolved))
    assert OLD_KEYS.keys().isdisjoint(keys)
    assert set(OLD_KEYS.values()) <= keys
    for replaced in REPLACED:
        assert [key for key in keys if has_word(key.split(".")[-1], replaced.word)] == []
    for file in TEXTS:
        if file != GLOSSARY:
            for old in OLD_KEYS:
                assert not re.search(rf"\b{re.escape(old)}\b(?!_)", file.read_text()), file


def test_a_shard_is_an_mds_file_and_nothing_else() -> None:
    """What one of several machines prepares is a task; of a sweep, ``--shard`` names a part."""
    for file in (*SOURCES, *TEXTS):
        text = file.read_text()
        if file == GLOSSARY:
            text = text.split("## Words that were replaced")[0]
            text = text.replace("`flexbert sweep --shard i/n`", "")
        if not OF_SWEEPS.intersection((file.name, file.parent.name)):
            assert not re.search(r"--shard(?!-size)\b", text), file
        assert not re.search(r"\bShardRecord\b|machines?'s? shards?", text), file


def test_a_rank_has_rows_and_a_source_has_buckets() -> None:
    for file in SOURCES:
        names = set(names_in(file.read_text(), local=False))
        if "flexbert/data/packing" in str(file):
            assert not {name for name in names if has_word(name, "share")}, file
        if "flexbert/data" in str(file):
            classes = {
                node.name
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.ClassDef)
            }
            assert not {name for name in classes if has_word(name, "part")}, file


def definitions() -> dict[str, list[str]]:
    """Public classes and functions at a module's top, with the modules that define them."""
    homes: dict[str, list[str]] = defaultdict(list)
    for file in SOURCES:
        top = ast.parse(file.read_text()).body
        # Overloads define one function.
        names = {n.name for n in top if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        for name in names:
            if not name.startswith("_"):
                homes[name].append(str(file.relative_to(REPOSITORY)))
    return homes


def test_no_two_public_definitions_have_one_name() -> None:
    several = {name: homes for name, homes in definitions().items() if len(homes) > 1}
    assert {name: homes for name, homes in several.items() if name not in SAME_NAME} == {}
    assert SAME_NAME.keys() <= several.keys(), "no longer needed"


def test_no_two_files_have_one_name() -> None:
    several: dict[str, list[str]] = defaultdict(list)
    for file in SOURCES:
        several[file.name].append(str(file.relative_to(REPOSITORY)))
    several = {name: files for name, files in several.items() if len(files) > 1}
    assert {name: files for name, files in several.items() if name not in SAME_FILE} == {}
    assert SAME_FILE.keys() <= several.keys(), "no longer needed"


def glossary_entries() -> dict[str, str]:
    """Each word with the line that defines it."""
    lines = re.findall(r"^- (\*\*.*)$", GLOSSARY.read_text(), re.MULTILINE)
    return {line.split(":", 1)[0].replace("*", ""): line for line in lines}


def test_the_glossary_defines_each_word_once_and_its_homes_exist() -> None:
    entries = glossary_entries()
    assert len(entries) >= 50
    words = [word for entry in entries for word in re.split(r", (?:or )?", entry)]
    assert len(words) == len(set(words))
    homes = definitions()
    classes = [c for line in entries.values() for c in re.findall(r"[Cc]lass `(\w+)`", line)]
    assert len(classes) >= 20
    assert {name: homes.get(name) for name in classes if len(homes.get(name, [])) != 1} == {}


def test_keys_and_packages_of_the_glossary_exist() -> None:
    lines = glossary_entries().values()
    loaded = load_recipe(
        REPOSITORY / "yamls" / "base.yaml", ["model.attention.backend=auto"], planning=True
    )
    keys = {*keys_of(loaded.resolved), "init_from", "start_from"}
    named = {key for line in lines for key in re.findall(r"Key `([\w.]+)`", line)}
    assert len(named) >= 12
    assert named - keys == set()
    packages = {p for line in lines for p in re.findall(r"package `([\w.]+)`", line)}
    assert packages
    assert all((REPOSITORY / p.replace(".", "/") / "__init__.py").exists() for p in packages)


# In what is written for readers; pages that others write yet are left out.
AVOIDED = ("so many", "at hand", "anew", "alike", "likewise", "is told", "beside", "unless told")
NOT_YET = (
    *("blocks", "models", "huggingface", "performance", "experiments", "attention"),
    *("keys", "commands"),
)


@pytest.mark.parametrize(
    "page", [p for p in TEXTS if p.suffix == ".md" and p.stem not in NOT_YET], ids=lambda p: p.stem
)
def test_rewritten_pages_avoid_inverted_phrases(page: Path) -> None:
    text = " ".join(page.read_text().split())
    assert [phrase for phrase in AVOIDED if re.search(rf"\b{phrase}\b", text)] == []


@pytest.mark.parametrize(
    "page", [p for p in TEXTS if p.suffix == ".md" and p.stem not in NOT_YET], ids=lambda p: p.stem
)
def test_no_cell_of_a_table_is_longer_than_two_lines(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    longest = max((cell for row in rows for cell in row.split("|")), key=len, default="")
    assert len(longest) <= 160, longest
