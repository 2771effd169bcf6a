"""What experiments with many small training runs share."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.cli import main as data_prep
from data_prep.demo import demo_documents
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train


def make_corpus(
    folder: Path,
    vocab_size: int,
    write_text: Callable[[Path], None],
    *,
    tokenizer_options: Sequence[str] = (),
    write_tokenizer_text: Callable[[Path], None] | None = None,
) -> Path:
    """A corpus in ``folder``, with text and tokenizer beside it; what is finished stays.

    Args:
        write_tokenizer_text: of what the tokenizer is trained on, where that is another text.
    """
    text, tokenizer, corpus = folder / "text", folder / "tokenizer", folder / "corpus"
    if not tokenizer.exists():
        write_text(text)
        learned = text
        if write_tokenizer_text is not None:
            learned = folder / "tokenizer-text"
            write_tokenizer_text(learned)
        options = ("--vocab-size", vocab_size, *tokenizer_options)
        _prepare("tokenizer", *options, "--out", tokenizer, learned)
    options = ("--validation", 0.05, "--workers", 1, "--quiet")
    _prepare("corpus", "--tokenizer", tokenizer, *options, "--out", corpus, text)
    return corpus


def write_some_documents(folder: Path) -> None:
    """A little of the quickstart's text, to see that an experiment runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "some.jsonl").open("w") as file:
        for _, text in itertools.islice(demo_documents(), 100):
            file.write(json.dumps({"text": text}) + "\n")


def _prepare(*arguments: object) -> None:
    if code := data_prep([str(argument) for argument in arguments]):
        sys.exit(code)


def trained(recipe_file: Path, overrides: Sequence[str]) -> Path:
    """The folder of a run, after it has been trained to its end, in this process."""
    loaded = load_recipe(recipe_file, overrides)
    if (code := train(loaded, sys.argv)) != DONE:
        sys.exit(code)
    return loaded.first.run_folder
