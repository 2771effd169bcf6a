"""Does this docstring describe this function? A pair, labels "yes" and "no"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flexbert.tasks.offline.definitions import Module
from flexbert.tasks.offline.described_functions import described_functions
from flexbert.tasks.offline.keyed_order import keyed_order


def docstring_match_rows(modules: Sequence[Module], most: int) -> list[dict[str, Any]]:
    """Rows with the columns ``docstring``, ``code`` and ``label``; one in two says "yes".

    A docstring is the first paragraph. Its name would give a function away and is replaced by
    ``f``. The wrong docstring is of another function in the module, and each docstring and each
    function stand in one row of either label: neither alone says which it is.

    Args:
        modules: of a split.
        most: rows.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for _, functions in described_functions(modules, "docstring_match"):
        if len(functions) < 2:
            continue
        for place, function in enumerate(functions):
            for label, other in (("yes", function), ("no", functions[place - 1])):
                row = {"docstring": other.summary, "code": function.code, "label": label}
                rows.setdefault(function.key, []).append(row)
    chosen = keyed_order(rows, "docstring_match rows")[: most // 2]
    labelled = {f"{key} {row['label']}": row for key in chosen for row in rows[key]}
    return [labelled[key] for key in keyed_order(labelled, "docstring_match order")]
