"""Functions and classes of a source file, with their docstrings apart from their code."""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from flexbert.files.regular import read_regular
from flexbert.tasks.offline.docstrings import clean, prose_paragraphs, see_also, summary_of
from flexbert.tasks.offline.installed import LARGEST_FILE, SourceFile

# Longer functions are cut by any model that trains in minutes.
MOST_CODE = 1200
# The name that every function goes by, for its own says what it does.
HIDDEN_NAME = "f"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A function or a class at a module's top, or a method.

    Attributes:
        key: tells it apart from all others: module and qualified name.
        name: its own name.
        owner: the class it is defined in; empty at a module's top.
        summary: the first paragraph of its docstring; empty where there is none.
        paragraphs: further paragraphs of prose in its docstring.
        see_also: names in its "See Also" section.
        code: a function's source without decorators and docstring, its name replaced by ``f``;
            empty for a class and for what is longer than ``MOST_CODE`` characters.
    """

    key: str
    name: str
    owner: str
    summary: str
    paragraphs: tuple[str, ...]
    see_also: tuple[str, ...]
    code: str


@dataclass(frozen=True, kw_only=True)
class Module:
    """What the tasks take from a file.

    Attributes:
        package: the import name of its package.
        name: as :class:`SourceFile`'s ``module``.
        imported: names that ``import`` statements at its top bind to modules.
        comments: paragraphs of prose in its comments.
    """

    package: str
    name: str
    imported: frozenset[str]
    definitions: tuple[Definition, ...]
    comments: tuple[str, ...]


def read_module(file: SourceFile) -> Module | None:
    """A file's definitions; None if it cannot be read, decoded or parsed.

    Packages ship templates, Python 2 and broken files on purpose.
    """
    try:
        source = importlib.util.decode_source(read_regular(file.path, LARGEST_FILE))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
        return None
    # Not splitlines: Python does not count a form feed as a line's end.
    lines = source.split("\n")
    return Module(
        package=file.package,
        name=file.module,
        imported=frozenset(_imported(tree)),
        definitions=tuple(_definitions(tree, lines, file.module)),
        comments=tuple(_comments(lines)),
    )


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]


def _definitions(tree: ast.Module, lines: list[str], module: str) -> Iterator[Definition]:
    # Of overloads and conditional definitions the first one counts.
    seen: set[str] = set()
    for node, owner in _nodes(tree.body, ""):
        key = f"{module}:{owner}.{node.name}" if owner else f"{module}:{node.name}"
        if key in seen:
            continue
        seen.add(key)
        docstring = clean(ast.get_docstring(node, clean=False) or "")
        first, _, further = docstring.partition("\n\n")
        yield Definition(
            key=key,
            name=node.name,
            owner=owner,
            summary=summary_of(first),
            paragraphs=tuple(prose_paragraphs(further)),
            see_also=tuple(see_also(docstring)),
            code="" if isinstance(node, ast.ClassDef) else _code(node, lines),
        )


def _nodes(body: list[ast.stmt], owner: str) -> Iterator[tuple[Function | ast.ClassDef, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node, owner
            yield from _nodes(node.body, node.name)
        elif isinstance(node, Function):
            yield node, owner


def _code(node: Function, lines: list[str]) -> str:
    """A function's source as :class:`Definition` has it; empty if its body is a docstring alone."""
    last = node.end_lineno or node.lineno
    kept = lines[node.lineno - 1 : last]
    if ast.get_docstring(node, clean=False) is not None:
        statement = node.body[0]
        # One on the line of ``def``, or followed by a semicolon, is not worth taking apart.
        if len(node.body) == 1 or not _has_lines_alone(statement, node):
            return ""
        end = statement.end_lineno or statement.lineno
        kept = lines[node.lineno - 1 : statement.lineno - 1] + lines[end:last]
    code = "\n".join(_dedented(line, node.col_offset).rstrip() for line in kept)
    if len(code) > MOST_CODE:
        return ""
    if code.count(node.name) == 1:
        # Compiling a pattern for each name would take longer than all else here.
        return code.replace(node.name, HIDDEN_NAME).strip()
    return re.sub(rf"\b{re.escape(node.name)}\b", HIDDEN_NAME, code).strip()


def _has_lines_alone(statement: ast.stmt, node: Function) -> bool:
    following = node.body[1].lineno if len(node.body) > 1 else node.end_lineno
    return node.lineno < statement.lineno and (statement.end_lineno or 0) < (following or 0)


def _dedented(line: str, indentation: int) -> str:
    # The lines of a long string may stand further left.
    return line[indentation:] if line[:indentation].isspace() else line


def _comments(lines: list[str]) -> Iterator[str]:
    """Comments of two lines or more that are prose; a file's first one is its license."""
    block: list[str] = []
    is_first = True
    for line in [*lines, ""]:
        text = line.lstrip()
        if text.startswith("#"):
            block.append(text.lstrip("#").strip())
        elif block:
            if len(block) > 1 and not is_first:
                yield from prose_paragraphs("\n".join(block).strip())
            block, is_first = [], False
