"""Labels of names against Python's own symbol tables, and by hand."""

from __future__ import annotations

import io
import keyword
import symtable
import tokenize

import pytest

from flexbert.tasks.offline.code_names import LABELS, OTHER, labelled_tokens
from flexbert.tasks.offline.definitions import read_module
from flexbert.tasks.offline.installed import source_files

CODES = (
    """def f(self, x: Config, *rest, size=LIMIT, **more):
    self.total, y = np.sum(x, axis=size), 1.5
    return y""",
    """async def f(*rest):
    y = 0
    for item in rest:
        y += len(item) if isinstance(item, str) else Other(y).value
    return [k for k in helper(default, "text")]""",
)
BY_HAND = {
    "f": "function",
    "self": "parameter",
    "Config": "class",
    "rest": "parameter",
    "LIMIT": "constant",
    "total": "attribute",
    "y": "variable",
    "np": "module",
    "sum": "method",
    "axis": "keyword",
    "item": "variable",
    "len": "function",
    "str": "class",
    "Other": "class",
    "value": "attribute",
    "k": "variable",
    "helper": "function",
    "default": "global",
    "for": OTHER,
    "1.5": OTHER,
    '"text"': OTHER,
    "+=": OTHER,
}


def test_labels_by_hand() -> None:
    named = {}
    for code in CODES:
        found = labelled_tokens(code, {"np"})
        assert found is not None
        named |= dict(zip(*found, strict=True))
    assert {word: named[word] for word in BY_HAND} == BY_HAND
    assert set(named.values()) == set(LABELS)


def scopes(table: symtable.SymbolTable) -> list[symtable.SymbolTable]:
    return [table, *(inner for child in table.get_children() for inner in scopes(child))]


def test_parameters_and_variables_are_those_of_symbol_tables() -> None:
    """On the functions of a real package."""
    checked = 0
    for file in source_files("rich"):
        module = read_module(file)
        assert module is not None
        for one in module.definitions:
            found = labelled_tokens(one.code, module.imported) if one.code else None
            if found is None:
                continue
            (function,) = symtable.symtable(one.code, "code", "exec").get_children()
            symbols = [s for scope in scopes(function) for s in scope.get_symbols()]
            parameters = {s.get_name() for s in function.get_symbols() if s.is_parameter()}
            local = {s.get_name() for s in symbols if s.is_local()}
            labels = list(zip(*found, strict=True))
            assert {w for w, kind in labels if kind == "parameter"} == parameters
            assert {w for w, kind in labels if kind == "variable"} <= local - parameters
            global_names = {w for w, k in labels if k in ("class", "constant", "global", "module")}
            assert global_names.isdisjoint(local | parameters)
            checked += 1
    assert checked > 100


def test_tokens_are_pythons_and_every_name_has_a_label() -> None:
    checked = 0
    for file in source_files("streaming"):
        module = read_module(file)
        assert module is not None
        for one in module.definitions:
            found = labelled_tokens(one.code, module.imported) if one.code else None
            if found is None:
                continue
            tokens, labels = found
            assert len(tokens) == len(labels)
            assert 12 <= len(tokens) <= 60
            words = tokenize.generate_tokens(io.StringIO(one.code).readline)
            kept = [t for t in words if t.string.strip() and t.type != tokenize.COMMENT]
            assert [" ".join(t.string.split()) for t in kept] == tokens
            for word, label in zip(kept, labels, strict=True):
                is_name = word.type == tokenize.NAME and not keyword.iskeyword(word.string)
                assert (label != OTHER) == is_name, (one.key, word)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "global x",
        "x = lambda y: y",
        'x = f"{x}"',
        "x = 'ü'",
        "def inner(): pass",
        "x = '" + "a" * 50 + "'",
        "x = (1, 2" + ", 3" * 60 + ")",
        "broken(",
    ],
)
def test_functions_whose_names_have_several_meanings_make_no_row(line: str) -> None:
    code = "def f(x):\n    y = (x + 1) * 2\n    {}\n    return y"
    assert labelled_tokens(code.format("pass"), ()) is not None
    assert labelled_tokens(code.format(line), ()) is None
    handler = "try: x = 1\n    except ValueError{}: y = 2"
    assert labelled_tokens(code.format(handler.format("")), ()) is not None
    assert labelled_tokens(code.format(handler.format(" as e")), ()) is None
    assert labelled_tokens("", ()) is None
    assert labelled_tokens("x = 1 + 2 + 3 + 4 + 5 + 6 + 7", ()) is None
