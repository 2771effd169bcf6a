"""Train, validation and test: each module is in one of them, and so is each text.

What a model learns by heart in one split is of no use in another: a function whose code or
docstring occurs nearly word for word in an earlier split, or in the quickstart's corpus, is left
out. Packages hold many copies: of their own, of each other's and of the standard library's files.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace

from flexbert.tasks.offline.definitions import Module
from flexbert.tasks.offline.keyed_order import keyed_number
from flexbert.tasks.offline.repeated_text import RepeatedText, first_of_each

SPLITS = ("train", "validation", "test")
# Of a hundred modules; the others are for training.
_VALIDATION = 15
_TEST = 15


def split_modules(modules: Sequence[Module], corpus: Iterable[str]) -> dict[str, list[Module]]:
    """The modules of each split, without what is repeated; in the order of their names.

    Args:
        corpus: texts that models may have been pretrained on.
    """
    seen = RepeatedText()
    seen.add(list(corpus))
    found = {}
    for split in SPLITS:
        own = [module for module in modules if split_of(module.name) == split]
        found[split] = _without_repeated(sorted(own, key=lambda module: module.name), seen)
    return found


def split_of(module: str) -> str:
    """A module's split, by the hash of its name alone."""
    place = keyed_number(module, "splits") % 100
    if place < _VALIDATION:
        return "validation"
    return "test" if place < _VALIDATION + _TEST else "train"


def _without_repeated(modules: Sequence[Module], seen: RepeatedText) -> list[Module]:
    texts = [text for module in modules for text in _texts(module)]
    # In the order of the texts, which is the order they are asked for below.
    is_new = map(operator.and_, first_of_each(texts), seen.add(texts))
    found = []
    for module in modules:
        comments = tuple(text for text in module.comments if next(is_new))
        definitions = []
        for one in module.definitions:
            new_code, new_summary = next(is_new), next(is_new)
            paragraphs = tuple(text for text in one.paragraphs if next(is_new))
            if (new_code or not one.code) and (new_summary or not one.summary):
                definitions.append(replace(one, paragraphs=paragraphs))
        found.append(replace(module, definitions=tuple(definitions), comments=comments))
    return found


def _texts(module: Module) -> list[str]:
    texts = [*module.comments]
    for one in module.definitions:
        texts += [one.code, one.summary, *one.paragraphs]
    return texts
