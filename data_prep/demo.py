"""``python -m data_prep demo``: text that every installation has, for the quickstart.

Sources and documentation of Python's standard library and of numpy, one document a file. Tests are
left out (not every Python ships them), and so are files that are data rather than text: a line of
more than ``MAX_LINE`` characters, or less than ``MIN_LETTERS`` of the characters that are not
whitespace being letters.
"""

from __future__ import annotations

import importlib.util
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from data_prep.readers import Reject, check_bytes
from flexbert.errors import UserError
from flexbert.files.durable import write_durably

# Rich in docstrings, and a dependency of ours, so always there.
PACKAGES = ("numpy",)
# Folders that are left out, wherever they are.
TESTS = {"test", "tests", "testing", "idle_test"}
FOREIGN = {"site-packages", "dist-packages", "_vendor", "ensurepip"}
TABLES = {"encodings", "pydoc_data", "lib2to3", "__pycache__"}
LEFT_OUT = TESTS | FOREIGN | TABLES
SUFFIXES = (".py", ".md", ".rst", ".txt")
MAX_LINE = 400
MIN_LETTERS = 0.7
MIN_CHARACTERS = 500
MIN_TOTAL = 10_000_000
DEMO_FILE = "demo.jsonl"


def write_demo(folder: Path) -> None:
    """Write ``demo.jsonl`` and print its size; an equal file is left untouched.

    Raises:
        UserError: if this installation has too little text.
    """
    documents = list(demo_documents())
    size = sum(len(text.encode()) for _, text in documents)
    if size < MIN_TOTAL:
        raise UserError(
            f"this Python installation holds {size / 1e6:.1f} MB of text, the demo needs "
            f"{MIN_TOTAL / 1e6:.0f}; install the locked requirements"
        )
    lines = [json.dumps({"text": text, "source": source}) + "\n" for source, text in documents]
    content = "".join(lines).encode()
    file = folder / DEMO_FILE
    if not file.is_file() or file.read_bytes() != content:
        folder.mkdir(parents=True, exist_ok=True)
        with write_durably(file) as out:
            out.write(content)
    print(f"{file}: {len(documents):,} documents, {size / 1e6:.1f} MB of text")


def demo_documents() -> Iterator[tuple[str, str]]:
    """(source, text) of each document, in a fixed order, each text once."""
    seen: set[str] = set()
    for name, root in _roots():
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.suffix not in SUFFIXES or LEFT_OUT.intersection(inside.parts):
                continue
            text = check_bytes(path.read_bytes())
            if not isinstance(text, Reject) and text not in seen and is_prose_like(text):
                seen.add(text)
                yield f"{name}/{inside.as_posix()}", text


def is_prose_like(text: str) -> bool:
    """Whether a file is text to read rather than data; the rule of this module's docstring."""
    printed = "".join(text.split())
    letters = sum(map(str.isalpha, printed))
    return (
        len(text) >= MIN_CHARACTERS
        and letters >= MIN_LETTERS * len(printed)
        and max(map(len, text.splitlines())) <= MAX_LINE
    )


def _roots() -> Iterator[tuple[str, Path]]:
    yield "python", Path(sysconfig.get_path("stdlib"))
    for folder in PACKAGES:
        package, *inside = folder.split("/")
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield folder, Path(spec.origin).parent.joinpath(*inside)
