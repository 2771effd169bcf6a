"""Functions whose docstring can be told from others by their code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flexbert.tasks.offline.definitions import Definition, Module
from flexbert.tasks.offline.keyed_order import keyed_order

# Of code without ``def``: fewer say nothing.
_LEAST_CODE_LINES = 2
_SUMMARY_WORDS = range(4, 61)
# Of one module, so that a few long files are not the whole task.
_MOST_OF_A_MODULE = 60


def described_functions(
    modules: Sequence[Module], purpose: str
) -> Iterator[tuple[Module, list[Definition]]]:
    """Of each module, its documented functions in an order of their own for each purpose."""
    for module in modules:
        described = {one.key: one for one in module.definitions if _is_described(one)}
        order = keyed_order(described, purpose)[:_MOST_OF_A_MODULE]
        yield module, [described[key] for key in order]


def _is_described(one: Definition) -> bool:
    lines = one.code.count("\n")
    return lines >= _LEAST_CODE_LINES and len(one.summary.split()) in _SUMMARY_WORDS
