"""Which package does this paragraph come from? One text, ten labels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from flexbert.tasks.offline.definitions import Module
from flexbert.tasks.offline.keyed_order import keyed_order

NUM_PACKAGES = 10
_WORDS = range(8, 61)
# What packages are called in texts. A word with one of these inside is masked.
_CALLED = (
    *("composer", "fonttool", "hugging", "matplotlib", "mosaic", "mpmath", "networkx", "numba"),
    *("pandas", "pillow", "pyplot", "scikit", "scipy", "sklearn", "streaming", "sympy", "torch"),
    *("transformers", "wandb", "weights & biases"),
)
_CALLED_INSIDE = re.compile(rf"[\w-]*(?:{'|'.join(_CALLED)})[\w-]*", re.IGNORECASE)
# Whole words alone: they are short, or parts of others.
_ABBREVIATED = {"hf", "hub", "mpl", "nx", "pd", "pil", "plt", "rich", "w&b"}
PACKAGE_MASK = "package"
# In names of code: an underscore, a digit, a dot or a call inside, a capital after a small letter.
_OF_CODE = re.compile(r"_|\d|\w\.\w|\w\(|[a-z][A-Z]")
NAME_MASK = "name"
_SENTENCE_MARKS = ".,;:!?"
_EDGES = re.compile(r"^\W*|\W*$")


def package_topic_rows(
    splits: Mapping[str, Sequence[Module]], most: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """Of each split, rows with the columns ``text`` and ``label``, equally many of each package.

    A text is a paragraph of a docstring or of comments. What packages are called is masked in it,
    and so are names of code. The packages are those with the most paragraphs; there are no rows
    where there is one package alone.

    Args:
        splits: the modules of each split, those to train on first.
        most: rows of each split.
    """
    texts = {split: _paragraphs(modules) for split, modules in splits.items()}
    counts = {name: min(len(own[name]) for own in texts.values()) for name in _all_names(texts)}
    largest = sorted(counts, key=lambda name: (-counts[name], name))[:NUM_PACKAGES]
    if len(largest) < 2:
        return {split: [] for split in texts}
    seen: set[str] = set()
    found = {}
    for split, own in texts.items():
        each = most[split] // len(largest)
        chosen = {name: _first_masked(own[name], each, seen) for name in sorted(largest)}
        fewest = min(map(len, chosen.values()))
        rows = {text: name for name, masked in chosen.items() for text in masked[:fewest]}
        order = keyed_order(rows, "package_topic order")
        found[split] = [{"text": text, "label": rows[text]} for text in order]
    return found


def _all_names(texts: Mapping[str, Mapping[str, Sequence[str]]]) -> set[str]:
    """Packages with a paragraph in every split."""
    return set.intersection(*(set(own) for own in texts.values()))


def _first_masked(texts: Sequence[str], most: int, seen: set[str]) -> list[str]:
    """Texts in an order of their own, masked, without those that were seen before."""
    found: list[str] = []
    for text in keyed_order(texts, "package_topic rows"):
        if len(found) == most:
            break
        plain = masked_paragraph(text)
        if plain not in seen:
            seen.add(plain)
            found.append(plain)
    return found


def masked_paragraph(text: str) -> str:
    """A text without what packages are called and without names of code."""
    if any(name in text.lower() for name in _CALLED):
        text = _CALLED_INSIDE.sub(PACKAGE_MASK, text)
    return " ".join(_masked_word(word) for word in text.split())


def _masked_word(word: str) -> str:
    inside = _EDGES.sub("", word)
    if inside.lower() in _ABBREVIATED:
        return word.replace(inside, PACKAGE_MASK)
    if _OF_CODE.search(word):
        return NAME_MASK + word[len(word.rstrip(_SENTENCE_MARKS)) :]
    return word


def _paragraphs(modules: Sequence[Module]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        documented = [(one.summary, *one.paragraphs) for one in module.definitions]
        for text in (*module.comments, *(text for texts in documented for text in texts)):
            if len(text.split()) in _WORDS:
                found[module.package].append(text)
    return found
