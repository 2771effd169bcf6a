"""The table of what every backend can do, from what the backends declare."""

from __future__ import annotations

import torch

from flexbert.nn.attention_backends.backend import FEATURES, Backend, Feature
from flexbert.nn.attention_backends.backend_selection import BACKENDS


def support_table() -> str:
    """A Markdown table of backends and features, best backend first, and its footnotes."""
    notes: list[str] = []
    header = ("backend", *FEATURES.values(), "head sizes", "dtypes", "needs")
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for backend in BACKENDS.values():
        cells = [f"`{backend.name}`"]
        cells += [_feature(backend, feature, notes) for feature in FEATURES]
        cells += [_head_sizes(backend), _dtypes(backend.dtypes), backend.devices]
        lines.append("| " + " | ".join(cells) + " |")
    footnotes = [f"{number}. {note}" for number, note in enumerate(notes, start=1)]
    return "\n".join([*lines, "", *footnotes]) + "\n"


def _feature(backend: Backend, feature: Feature, notes: list[str]) -> str:
    """``yes`` or ``no``, and the numbers of the notes that say more."""
    limits = [limit for limit in backend.limits if feature in limit.features]
    is_absent = any(limit.features == (feature,) and not limit.above_head_dim for limit in limits)
    numbers = []
    for limit in limits:
        note = f"`{backend.name}` {limit.reason}."
        if note not in notes:
            notes.append(note)
        numbers.append(str(notes.index(note) + 1))
    return ("no" if is_absent else "yes") + (f" ({', '.join(numbers)})" if numbers else "")


def _head_sizes(backend: Backend) -> str:
    multiple = backend.head_dim_multiple
    words = [f"multiples of {multiple}"] if multiple > 1 else []
    words += [f"up to {limit.above_head_dim}" for limit in backend.limits if not limit.features]
    return " ".join(words) or "any"


def _dtypes(dtypes: tuple[torch.dtype, ...] | None) -> str:
    return "any" if dtypes is None else ", ".join(str(d).removeprefix("torch.") for d in dtypes)
