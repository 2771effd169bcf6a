"""Functions and classes as they are read from files, whatever state these are in."""

from __future__ import annotations

import ast
import os
import warnings
from pathlib import Path

import pytest

from flexbert.tasks.offline.definitions import MOST_CODE, read_module
from flexbert.tasks.offline.installed import LARGEST_FILE, SourceFile, source_files
from tests.tasks.offline.small_packages import module_of

SOURCE = '''"""Of the module."""
import os, numpy as np
import matplotlib.pyplot
from typing import Any

# A license.
# All rights reserved.

@decorated
def mean(x, *, mean_of=None):
    """Compute the average
    of numbers.

    Another paragraph.
    """
    # A comment in the code.
    return mean(x) + x.mean + mean_of


class Thing:
    """A thing of some kind."""

    async def run(self):
        """Run the thing now."""; return 1

    def stop(self):
        """Stop the thing now."""

    def go(self):
        """Go on with the thing."""
        def inner():
            """Hidden inside."""
        return inner


# These two lines say why it is so,
# and stand before the next one.
def plain(): return """no docstring"""
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "one.py"


def test_code_has_neither_docstring_nor_name_nor_decorator(file: Path) -> None:
    module = module_of(file, SOURCE)
    assert module is not None
    found = {one.key.partition(":")[2]: one for one in module.definitions}
    assert list(found) == ["mean", "Thing", "Thing.run", "Thing.stop", "Thing.go", "plain"]
    assert found["mean"].code == (
        "def f(x, *, mean_of=None):\n    # A comment in the code.\n    return f(x) + x.f + mean_of"
    )
    assert found["mean"].summary == "Compute the average of numbers."
    assert found["mean"].paragraphs == ("Another paragraph.",)
    # A body that is a docstring alone, or on the docstring's line.
    assert found["Thing.stop"].code == found["Thing.run"].code == found["Thing"].code == ""
    assert found["Thing.go"].code.startswith("def f(self):\n    def inner():")
    assert found["plain"].code == 'def f(): return """no docstring"""'
    assert found["Thing.go"].owner == "Thing"
    assert module.imported == {"os", "np", "matplotlib"}
    assert module.comments == ("These two lines say why it is so, and stand before the next one.",)


def test_long_functions_have_no_code(file: Path) -> None:
    body = "    x = 1\n" * (MOST_CODE // 9)
    module = module_of(file, f'def long(x):\n    """Do a lot of things."""\n{body}')
    assert module is not None
    assert [(one.summary, one.code) for one in module.definitions] == [("Do a lot of things.", "")]


def test_names_within_other_names_stay(file: Path) -> None:
    module = module_of(file, "def mean(x):\n    return x.means(mean_of=mean)\n")
    assert module is not None
    assert module.definitions[0].code == "def f(x):\n    return x.means(mean_of=f)"


def test_code_of_real_files_is_what_ast_says(tmp_path: Path) -> None:
    """Against the tree: the same statements, but for the docstring and the name."""
    checked = 0
    for file in list(source_files("rich"))[:25]:
        module = read_module(file)
        assert module is not None
        tree = ast.parse(file.path.read_bytes())
        nodes = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                nodes.setdefault(node.name, []).append(node)
        for one in module.definitions:
            if one.code and len(nodes[one.name]) == 1 and one.code.count("f") < 50:
                (node,) = nodes[one.name]
                body = node.body[1:] if ast.get_docstring(node) else node.body
                again = ast.parse(one.code).body[0]
                assert isinstance(again, ast.FunctionDef)
                assert again.name == "f"
                text = "\n".join(map(ast.unparse, body))
                if one.name not in text:
                    assert "\n".join(map(ast.unparse, again.body)) == text
                    checked += 1
    assert checked > 100


@pytest.mark.parametrize(
    "source",
    [
        b"def f(:\n",
        b"print 'Python 2'\n",
        b"x = '\xff\xfe'\n",
        b"\x00\x01",
        b"# coding: no-such-encoding\nx = 1\n",
        b"x = " + b"(" * 5000,
        b"x = 1\n" * (LARGEST_FILE // 6 + 1),
    ],
    ids=["broken", "python 2", "not utf-8", "binary", "unknown encoding", "nested", "too long"],
)
def test_files_that_cannot_be_read_are_passed_over(file: Path, source: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module_of(file, source) is None


def test_other_encodings_and_line_ends_are_read(file: Path) -> None:
    source = '# coding: latin-1\ndef f():\n    """Über alles hinaus."""\n    \x0c\n    return 1\n'
    module = module_of(file, source.replace("\n", "\r\n").encode("latin-1"))
    assert module is not None
    assert module.definitions[0].summary == "Über alles hinaus."
    assert module.definitions[0].code == "def f():\n\n    return 1"


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    for name in ("pipe.py", "folder.py", "missing.py"):
        file = SourceFile(package="scipy", module=name, path=tmp_path / name)
        assert read_module(file) is None
