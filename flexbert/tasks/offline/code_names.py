"""What kind of name is each word of this code? Labels of tokens, from Python's own syntax tree."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flexbert.tasks.offline.definitions import Module
from flexbert.tasks.offline.keyed_order import keyed_order

# What is no name: keywords, operators, numbers, strings.
OTHER = "O"
LABELS = (
    *(OTHER, "attribute", "class", "constant", "function", "global", "keyword", "method"),
    *("module", "parameter", "variable"),
)
NUM_TOKENS = range(12, 61)
_MOST_OF_A_MODULE = 40
_MOST_LETTERS = 40
_WORD = re.compile(r"\w+")
_LEFT_OUT = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.JoinedStr, ast.Match),
    *(ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal),
)
_LAYOUT = {
    *(tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
}

Position = tuple[int, int]


def code_names_rows(
    splits: Mapping[str, Sequence[Module]], most: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """Of each split, rows with the columns ``tokens`` and ``labels``, equally long lists.

    A row is a function of 12 to 60 tokens. They are Python's, without line ends, indentation and
    comments; a label says what a name stands for there (``LABELS``), which often only another part
    of the function shows. No two rows have the same tokens.

    Args:
        splits: the modules of each split, those to train on first.
        most: rows of each split.
    """
    seen: set[tuple[str, ...]] = set()
    return {split: _rows(modules, most[split], seen) for split, modules in splits.items()}


def _rows(modules: Sequence[Module], most: int, seen: set[tuple[str, ...]]) -> list[dict[str, Any]]:
    codes = {}
    for module in modules:
        own = {one.key: one.code for one in module.definitions if one.code}
        for key in keyed_order(own, "code_names modules")[:_MOST_OF_A_MODULE]:
            codes[key] = (own[key], module.imported)
    rows: list[dict[str, Any]] = []
    for key in keyed_order(codes, "code_names rows"):
        if len(rows) == most:
            break
        found = labelled_tokens(*codes[key])
        if found is not None and tuple(found[0]) not in seen:
            seen.add(tuple(found[0]))
            rows.append({"tokens": found[0], "labels": found[1]})
    return rows


def labelled_tokens(code: str, imported: Collection[str]) -> tuple[list[str], list[str]] | None:
    """The tokens of a function and their labels; None for what makes no row.

    Left out: f-strings (one token or many, by Python's version), what is not ASCII, functions in
    functions (a name has several meanings there), imports and ``global`` inside, long strings, too
    few or too many tokens.

    Args:
        imported: names of modules where the function stands.
    """
    # Parsing is what takes long; no function of so few tokens has more words.
    if not code.isascii() or len(_WORD.findall(code)) > NUM_TOKENS.stop:
        return None
    try:
        function, *inner = ast.walk(ast.parse(code).body[0])
        if any(_is_left_out(node) for node in inner):
            return None
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(code).readline)
            if token.type not in _LAYOUT
        ]
    except (SyntaxError, ValueError, IndexError, RecursionError, tokenize.TokenError):
        return None
    if len(tokens) not in NUM_TOKENS or max(len(token.string) for token in tokens) > _MOST_LETTERS:
        return None
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    kinds = _kinds(inner, imported)
    words = [token.string for token in tokens]
    labels = [kinds.get(token.start, OTHER) for token in tokens]
    labels[words.index("def") + 1] = "function"
    return [" ".join(word.split()) for word in words], labels


def _is_left_out(node: ast.AST) -> bool:
    # A handler's name, as that of an import, has no position of its own in the tree.
    return isinstance(node, _LEFT_OUT) or (isinstance(node, ast.ExceptHandler) and bool(node.name))


def _kinds(nodes: Sequence[ast.AST], imported: Collection[str]) -> dict[Position, str]:
    """The label of each name of a function by the line and column where it starts."""
    names = [node for node in nodes if isinstance(node, ast.Name)]
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    variables = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    found: dict[Position, str] = {}
    for node in nodes:
        if isinstance(node, ast.arg):
            found[node.lineno, node.col_offset] = "parameter"
        elif isinstance(node, ast.keyword) and node.arg is not None:
            found[node.lineno, node.col_offset] = "keyword"
        elif isinstance(node, ast.Attribute):
            end = (node.end_lineno or 0, (node.end_col_offset or 0) - len(node.attr))
            found[end] = "method" if id(node) in called else "attribute"
    for name in names:
        if name.id in parameters:
            kind = "parameter"
        elif name.id in variables:
            kind = "variable"
        elif name.id in imported:
            kind = "module"
        else:
            kind = _global_kind(name.id, is_called=id(name) in called)
        found[name.lineno, name.col_offset] = kind
    return found


def _global_kind(name: str, *, is_called: bool) -> str:
    """What a name is that the function does not bind: by Python's own, by PEP 8, by its use."""
    if isinstance(getattr(builtins, name, None), type):
        return "class"
    letters = name.strip("_")
    if letters[:1].isupper():
        return "constant" if letters.isupper() and len(letters) > 1 else "class"
    return "function" if is_called or callable(getattr(builtins, name, None)) else "global"
