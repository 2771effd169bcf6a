"""Trees of keys: merging, differences, dotted names."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from flexbert.config.tree import changed_keys, difference, expand_dotted, flatten, merge

NODE = {"name": "rope", "theta": 1, "scaling": {"name": "ntk", "factor": 2}}
TREES: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"a": None},
    {"a": {"b": 1, "c": [1, 2]}},
    {"a": {"b": 1, "c": [1]}, "d": {}},
    {"node": NODE},
    {"node": {**NODE, "theta": 2}},
    {"node": {"name": "other", "theta": 2}},
    {"sources": {"x": {"weight": 1}, "y": {"weight": 2}}},
    {"sources": {"y": {"weight": 2}, "z": {"weight": 1}}},
]


def without_nulls(tree: Any) -> Any:
    """Entries of null are entries that are not there."""
    if not isinstance(tree, dict):
        return tree
    return {key: without_nulls(value) for key, value in tree.items() if value is not None}


@pytest.mark.parametrize("old", TREES, ids=str)
@pytest.mark.parametrize("new", TREES, ids=str)
def test_a_difference_merged_over_the_old_tree_is_the_new_one(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert without_nulls(merge(old, difference(old, new))) == without_nulls(new)
    assert difference(new, new) == {}


def test_a_difference_says_no_more_than_what_differs() -> None:
    old = {"a": {"b": 1, "c": 2}, "node": NODE, "gone": 3}
    new = {"a": {"b": 1, "c": 3}, "node": {**NODE, "theta": 2}}
    assert difference(old, new) == {"a": {"c": 3}, "node": {"theta": 2}, "gone": None}


def test_a_node_of_another_name_is_told_whole() -> None:
    other = {"name": "other", "theta": 1}
    assert difference({"node": NODE}, {"node": other}) == {"node": other}


def test_changed_keys_have_both_values() -> None:
    assert changed_keys({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": 4}) == {
        "a.b": (1, 3),
        "c": (2, None),
        "d": (None, 4),
    }


def test_flatten_names_leaves_by_their_path() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {
        "a.b": 1,
        "a.c.d": [2],
        "e": None,
    }


@pytest.mark.parametrize(
    "keys", itertools.permutations(["a.mlp.name", "a.mlp.size", "a.mlp.gate.name", "a.mlp.gate.on"])
)
def test_in_whatever_order_keys_of_a_node_and_its_name_are_given_none_is_lost(
    keys: tuple[str, ...],
) -> None:
    given = {key: f"{key}'s" for key in keys}
    assert flatten(expand_dotted(given)) == given


def test_a_name_does_not_go_before_what_gives_its_node_as_a_whole() -> None:
    node = {"name": "glu", "size": 3}
    assert expand_dotted({"mlp": node, "mlp.name": "plain"}) == {"mlp": {"name": "plain"}}
