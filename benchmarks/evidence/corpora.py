"""The corpora of the miniatures: the quickstart's text, with two tokenizers."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.miniatures import make_corpus
from data_prep.demo import demo_documents, write_demo
from flexbert.files.durable import write_durably

VOCAB_SIZE = 8192
FOLDER = Path("corpora") / "evidence"
WithDocstring = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def make_corpora(write_text: Callable[[Path], None] = write_demo) -> tuple[Path, Path]:
    """A corpus cut by a BPE tokenizer, and one cut by a WordPiece tokenizer that knows prose alone.

    What is finished stays.

    Args:
        write_text: writes the documents into a folder.
    """
    bpe = make_corpus(FOLDER, VOCAB_SIZE, write_text)
    wordpiece = make_corpus(
        FOLDER / "wordpiece",
        VOCAB_SIZE,
        write_text,
        tokenizer_options=("--model", "wordpiece"),
        write_tokenizer_text=write_prose,
    )
    return bpe, wordpiece


def write_prose(folder: Path) -> None:
    """Write the docstrings of the quickstart's sources: text about code, without code."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text}) + "\n" for text in _docstrings())
    with write_durably(folder / "prose.jsonl") as file:
        file.write("".join(lines).encode())


def _docstrings() -> Iterator[str]:
    for source, text in demo_documents():
        if not source.endswith(".py"):
            yield text
            continue
        with warnings.catch_warnings():
            # Of escapes that a string of another's source should not have.
            warnings.simplefilter("ignore", SyntaxWarning)
            try:
                tree = ast.parse(text)
            except SyntaxError:
                continue  # of another Python's grammar
        for node in ast.walk(tree):
            if isinstance(node, WithDocstring) and (docstring := ast.get_docstring(node)):
                yield docstring
