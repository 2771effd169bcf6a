"""Tables of tensor names, read in both directions.

A table maps a parameter of ours, or the module that holds it, to one of theirs, or to several that
stand in ours one after another along dimension 0. ``{}`` stands for a layer's index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

NameTable = Mapping[str, tuple[str, ...]]
_LAYER = re.compile(r"\blayers\.(\d+)\.")


def their_names(ours: Iterable[str], table: NameTable) -> dict[str, tuple[str, ...]]:
    """For each parameter of ours the names of theirs."""
    return {name: _their_names(name, table) for name in ours}


def _their_names(name: str, table: NameTable) -> tuple[str, ...]:
    match = _LAYER.search(name)
    index = match[1] if match else ""
    template = _LAYER.sub("layers.{}.", name)
    module, _, leaf = template.rpartition(".")
    rows = table[template] if template in table else [f"{row}.{leaf}" for row in table[module]]
    return tuple(row.replace("{}", index) for row in rows)


def to_theirs(state: Mapping[str, Tensor], table: NameTable) -> dict[str, Tensor]:
    """A state dict of ours under their names, in memory of its own."""
    theirs: dict[str, Tensor] = {}
    for name, rows in their_names(state, table).items():
        parts = state[name].detach().cpu().chunk(len(rows))
        theirs |= {row: part.clone() for row, part in zip(rows, parts, strict=True)}
    return theirs


def to_ours(
    names: Iterable[str], table: NameTable, load: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """A state dict of ours with these parameters.

    Args:
        load: gives a tensor of theirs by its name.
    """
    return {
        name: load(rows[0]) if len(rows) == 1 else torch.cat([load(row) for row in rows])
        for name, rows in their_names(names, table).items()
    }
