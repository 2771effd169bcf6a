"""Trees and bytes, changed as nobody would by hand."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Place = tuple[Any, Any]  # a container, and a key or an index of it

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            "???",
            "${",
            "${a}",
            "${model}",
            "${oc.env:NOBODY_SETS_THIS}",
            "${oc.env:HOME}",
            "~nobody/x",
            "../../x",
            "/dev/zero",
            "nan",
            "1e999tok",
            "3ba",
            "0.1dur",
            "0tok",
            "99999999999gb",
            "0-99999999999",
            "x" * 10_000,
            "\x00",
            "\ud800",
            "a\nb",
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-3, 70_000),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**32, 2**63, -(2**63), 10**30, 10**4000, 1e308, -0.0]),
)
# What JSON has too.
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3), st.dictionaries(TEXTS, inside, max_size=3)
    ),
    max_leaves=4,
)
DEEP = st.builds(lambda levels: nested(levels), st.sampled_from([10, 40, 300]))
JUNK = st.one_of(
    PLAIN,
    DEEP,
    st.binary(max_size=5),
    st.dates(min_value=datetime.date(1900, 1, 1)),
    st.datetimes(),
    st.just({1, 2}),
    st.dictionaries(st.one_of(st.integers(), st.booleans(), st.none()), st.integers(), max_size=2),
)


def nested(levels: int) -> Any:
    """Lists in lists."""
    node: Any = 1
    for _ in range(levels):
        node = [node]
    return node


def places(node: Any) -> Iterator[Place]:
    """Every entry of a tree's containers."""
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from places(node[key])


@st.composite
def mutated(draw: st.DrawFn, tree: Any, junk: st.SearchStrategy[Any] = JUNK) -> Any:
    """A tree with one to three values replaced, scaled, deleted, renamed, nested or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        everywhere = list(places(tree))
        if not everywhere:
            break
        node, key = draw(st.sampled_from(everywhere))
        change = draw(st.sampled_from(["replace", "scale", "delete", "rename", "nest", "move"]))
        if change == "replace":
            node[key] = draw(junk)
        elif change == "scale" and isinstance(node[key], int | float) and abs(node[key]) < 1e15:
            node[key] = node[key] * draw(st.sampled_from([0, -1, 0.5, 2, 3, 1024, 10**6, 10**12]))
        elif change == "delete":
            del node[key]
        elif change == "rename" and isinstance(node, dict):
            node[draw(st.one_of(TEXTS, st.just(f"{key}x"), st.just(f"{key}.x")))] = node.pop(key)
        elif change == "nest":
            node[key] = draw(st.sampled_from([[node[key]], {"x": node[key]}, {"name": node[key]}]))
        else:  # moved or doubled: it stands in another place, perhaps in its own too
            target, where = draw(st.sampled_from(everywhere))
            target[where] = copy.deepcopy(node[key])
    return tree


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes, inserts: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with one to three changes: some flipped, cut out, doubled or put in."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from([0, 1, 4, 30, 10_000])))
        change = draw(st.sampled_from(["flip", "cut", "double", "insert"]))
        middle = {
            "flip": bytes(byte ^ 0xFF for byte in data[begin:end]),
            "cut": b"",
            "double": data[begin:end] * 2,
            "insert": draw(inserts) + data[begin:end],
        }[change]
        data = data[:begin] + middle + data[end:]
    return data
