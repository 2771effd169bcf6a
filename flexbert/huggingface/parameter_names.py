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
# How many rows of ours each of several tensors of theirs has, by the same keys; where a table has
# no entry, all have as many.
Sizes = Mapping[str, tuple[int, ...]]
_LAYER = re.compile(r"\blayers\.(\d+)\.")


def their_names(ours: Iterable[str], table: NameTable) -> dict[str, tuple[str, ...]]:
    """For each parameter of ours the names of theirs."""
    return {name: _their_names(name, table) for name in ours}


def rows_of(name: str, total: int, parts: int, sizes: Sizes) -> tuple[int, ...]:
    """How many of the ``total`` rows of a parameter of ours each of ``parts`` of theirs has."""
    module = _template(name).rpartition(".")[0]
    return sizes.get(module, (total // parts,) * parts)


def _template(name: str) -> str:
    return _LAYER.sub("layers.{}.", name)


def _their_names(name: str, table: NameTable) -> tuple[str, ...]:
    match = _LAYER.search(name)
    index = match[1] if match else ""
    template = _template(name)
    module, _, leaf = template.rpartition(".")
    rows = table[template] if template in table else [f"{row}.{leaf}" for row in table[module]]
    return tuple(row.replace("{}", index) for row in rows)


def to_theirs(state: Mapping[str, Tensor], table: NameTable, sizes: Sizes) -> dict[str, Tensor]:
    """A state dict of ours under their names, in memory of its own."""
    theirs: dict[str, Tensor] = {}
    for name, rows in their_names(state, table).items():
        whole = state[name].detach().cpu()
        parts = whole.split(rows_of(name, len(whole), len(rows), sizes))
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
