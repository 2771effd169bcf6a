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
# What packages are called in texts; each of these and all words with one inside are masked.
_CALLED = (
    *("composer", "fonttools", "fonttool", "hugging", "matplotlib", "mosaic", "mpmath", "networkx"),
    *("numba", "pandas", "pillow", "pyplot", "scikit", "scipy", "sklearn", "streaming", "sympy"),
    *("torch", "transformers", "wandb"),
)
# Whole words alone: they are short, or parts of others.
_ABBREVIATED = ("hf", "hub", "mpl", "nx", "pd", "pil", "plt", "rich", "w&b", "biases")
_OWN_NAME = re.compile(
    rf"\w*(?:{'|'.join(_CALLED)})\w*|\b(?:{'|'.join(_ABBREVIATED)})\b", re.IGNORECASE
)
PACKAGE_MASK = "package"
# Names of code: with an underscore, a dot, a digit or a call inside, or capitals after the first.
_CODE_NAME = re.compile(r"\w*(?:_|\w\.\w|\d|[a-z][A-Z])[\w.]*(?:\([^)]*\))?|\w+\([^)]*\)")
NAME_MASK = "name"


def topic_packages(modules: Sequence[Module]) -> list[str]:
    """The packages with the most paragraphs, in the order of their names: the labels.

    Args:
        modules: of the train split.
    """
    counts = {package: len(texts) for package, texts in _paragraphs(modules).items()}
    most = sorted(counts, key=lambda package: (-counts[package], package))[:NUM_PACKAGES]
    return sorted(most)


def package_topic_rows(
    modules: Sequence[Module], packages: Sequence[str], most: int
) -> list[dict[str, Any]]:
    """Rows with the columns ``text`` and ``label``, equally many of each package.

    A text is a paragraph of a docstring or of comments. What packages are called is masked in it,
    and so are names of code.

    Args:
        modules: of a split.
        packages: as :func:`topic_packages` gives them.
        most: rows.
    """
    texts = _paragraphs(modules)
    each = min([most // len(packages), *(len(texts[name]) for name in packages)]) if packages else 0
    rows = {}
    for package in packages:
        for text in keyed_order(texts[package], "package_topic rows")[:each]:
            rows[f"{package} {text}"] = {"text": text, "label": package}
    return [rows[key] for key in keyed_order(rows, "package_topic order")]


def masked(text: str) -> str:
    """A text without what packages are called and without names of code."""
    text = _OWN_NAME.sub(PACKAGE_MASK, text)
    return " ".join(_CODE_NAME.sub(NAME_MASK, text).split())


def _paragraphs(modules: Sequence[Module]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        documented = [(one.summary, *one.paragraphs) for one in module.definitions]
        for text in (*module.comments, *(text for texts in documented for text in texts)):
            if len(text.split()) in _WORDS:
                found[module.package].add(masked(text))
    return found
