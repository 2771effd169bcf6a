"""What several runs of one point are called together."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

_SEPARATORS = "-_.,=+ "
_SEED_WORD = re.compile(rf"[{_SEPARATORS}](seed|s)$")


def group_names(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group of runs: of one its own, of several what their names begin with.

    ``gelu_seed-1`` and ``gelu_seed-2`` are ``gelu``. Where they have no such beginning, or another
    group's is the same, the first run's name stands for them, with how many more there are.
    """
    stems = [_stem(names) for names in groups]
    count = Counter(stems)
    return [
        names[0]
        if len(names) == 1
        else stem
        if stem and count[stem] == 1
        else f"{names[0]} and {len(names) - 1} more"
        for names, stem in zip(groups, stems, strict=True)
    ]


def _stem(names: Sequence[str]) -> str:
    """The whole words that all names begin with, without a number and the word seed behind them."""
    letters = itertools.takewhile(lambda found: len(set(found)) == 1, zip(*names, strict=False))
    common = "".join(found[0] for found in letters)
    if len(set(names)) == 1:
        common = common.rstrip("0123456789")
    while common and any(_goes_on(common, name[len(common) :]) for name in names):
        common = common[:-1]
    return _SEED_WORD.sub("", common.rstrip(_SEPARATORS)).rstrip(_SEPARATORS)


def _goes_on(common: str, rest: str) -> bool:
    """Whether a cut between the two goes through a word or a number."""
    last, first = common[-1], rest[:1]
    return (last.isalpha() and first.isalpha()) or (last.isdigit() and first.isdigit())
