"""Which of four docstrings fits this function? Multiple choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flexbert.tasks.offline.definitions import Module
from flexbert.tasks.offline.described_functions import described_functions
from flexbert.tasks.offline.keyed_order import keyed_order

NUM_CHOICES = 4


def docstring_choice_rows(modules: Sequence[Module], most: int) -> list[dict[str, Any]]:
    """Rows with the columns ``code``, ``choices`` (four texts) and ``label`` (an index of them).

    All four are first paragraphs of docstrings in one module, and each is right in one row and
    wrong in three. Each index is right in one row of four.

    Args:
        modules: of a split.
        most: rows.
    """
    rows = {}
    for _, functions in described_functions(modules, "docstring_choice"):
        if len(functions) < NUM_CHOICES:
            continue
        for place, function in enumerate(functions):
            others = [functions[place - back].summary for back in range(1, NUM_CHOICES)]
            rows[function.key] = (function, others)
    found = []
    for number, key in enumerate(keyed_order(rows, "docstring_choice rows")[:most]):
        function, choices = rows[key]
        label = number % NUM_CHOICES
        choices.insert(label, function.summary)
        found.append({"code": function.code, "choices": choices, "label": label})
    return found
