"""Changes to trees of plain containers and tensors, such as no program of ours would write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

JUNK: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**62, 2**63, -(2**63), 10**30, 10**400),
    *(0.0, 0.5, -1.5, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "model", "../../etc/passwd", "\0", "\ud800", "é" * 1000, "1ba", "adamw", "$\\frac$"),
    *(
        [],
        [1],
        [[]],
        [None] * 3,
        (),
        {},
        {"": 1},
        {1: 2},
        {"a": {"b": []}},
        {None: None},
        {"x": "y"},
    ),
]
TENSORS = [
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(3),
    torch.zeros(2, 2, dtype=torch.int64),
    torch.full((4, 4), float("nan")),
    torch.zeros(3, dtype=torch.complex64),
    torch.zeros(3, dtype=torch.bool),
    torch.zeros(1).expand(1 << 20, 1 << 20),
    torch.zeros(3, device="meta"),
    torch.sparse_coo_tensor(size=(3, 3)),
]


def paths(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where everything in a tree stands, the root left out."""
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    else:
        return []
    found = []
    for key, value in items:
        found += [(*before, key), *paths(value, (*before, key))]
    return found


@dataclass
class Changed:
    """A changed tree, whose text is what was changed in it.

    Attributes:
        changes: where and how.
    """

    tree: Any
    changes: list[str]

    def __repr__(self) -> str:
        return "; ".join(self.changes)


@st.composite
def changed(draw: st.DrawFn, whole: Callable[[], Any], tensors: bool = False) -> Changed:
    """A tree with one to three changes; tensors in it are not copied.

    Args:
        whole: gives the tree, whose own text would be long.
        tensors: whether tensors may stand in it.
    """
    tree = whole()
    tree = copy.deepcopy(tree, {id(tensor): tensor for tensor in _tensors(tree)})
    found = Changed(tree, [])
    for _ in range(draw(st.integers(1, 3))):
        # Half of all changes near the root: deep down there are many more places.
        everywhere = paths(tree)
        near = [path for path in everywhere if len(path) <= 3]
        if not everywhere:
            break
        path = draw(st.sampled_from(near) | st.sampled_from(everywhere))
        *parents, key = path
        container = tree
        for parent in parents:
            container = container[parent]
        found.changes.append(f"{path} {_change(draw, container, key, tensors)}"[:200])
    return found


def _change(draw: st.DrawFn, container: Any, key: Any, tensors: bool) -> str:
    """Change what stands under a key; returns what was done."""
    old = container[key]
    kinds = ["remove", "junk", "like", *(["tensor"] if tensors else [])]
    if isinstance(container, dict):
        kinds += ["rename", "add"]
    kind = draw(st.sampled_from(kinds))
    if kind == "remove":
        del container[key]
        return kind
    if kind == "rename":
        new = draw(st.sampled_from(["", "x", f"{key}x", "encoder", 3]))
        container[new] = container.pop(key)
        return f"{kind} {new!r}"
    value = draw(
        _like(old) if kind == "like" else st.sampled_from(TENSORS if kind == "tensor" else JUNK)
    )
    if kind == "add":
        key = draw(st.sampled_from(["x", "", "wings", 1]))
    container[key] = value
    return f"{kind} {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)} on {value.device}"
    return repr(value)[:60]


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [tensor for value in values for tensor in _tensors(value)]


def _like(old: Any) -> st.SearchStrategy[Any]:
    """Other values of the same kind."""
    if isinstance(old, Tensor):
        if old.layout != torch.strided or old.device.type != "cpu" or old.numel() > 1 << 20:
            return st.just(old)
        if old.is_complex():
            return st.just(old.real)
        others = [old.half(), old.double(), old.long(), old.reshape(-1), old[None], old.to("meta")]
        return st.sampled_from([*others, old.reshape(-1)[:0], old * float("nan")])
    if isinstance(old, bool):
        return st.booleans()
    if isinstance(old, int):
        return st.sampled_from([old + 1, old - 1, -old, 2 * old, old + 10**12]) | st.integers()
    if isinstance(old, float):
        return st.floats()
    return st.text(max_size=5) if isinstance(old, str) else st.sampled_from(JUNK)
