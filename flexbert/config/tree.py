"""Recipes as plain trees: how one is laid over another, and how two of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_NAME = ".name"


def expand_dotted(node: Any) -> Any:
    """``{a.b: 1}`` to ``{a: {b: 1}}`` at every depth, so that dotted keys merge as nodes."""
    if isinstance(node, Mapping):
        tree: dict[str, Any] = {}
        for key, value in names_first(node.items(), lambda item: str(item[0])):
            nested = expand_dotted(value)
            for part in reversed(str(key).split(".")):
                nested = {part: nested}
            tree = merge(tree, nested)
        return tree
    return [expand_dotted(item) for item in node] if isinstance(node, list) else node


def names_first(given: Iterable[T], key_of: Callable[[T], str]) -> list[T]:
    """What is laid over each other, by dotted keys, in an order in which none is lost.

    A node's name, given after a key of that node, would replace the node and the key with it. Here
    it stands before them, though never before what gives the node as a whole.
    """
    ordered: list[T] = []
    for each in given:
        key, place = key_of(each), len(ordered)
        if key.endswith(_NAME):
            node = key.removesuffix(_NAME)
            while place and not _gives(key_of(ordered[place - 1]), node):
                place -= 1
        ordered.insert(place, each)
    return ordered


def _gives(key: str, node: str) -> bool:
    """Whether a key gives a node, or one that it is in, or the name of either."""
    given = key.removesuffix(_NAME)
    return node == given or node.startswith(f"{given}.")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``: mappings merge, lists and scalars replace.

    A node that names another component than its base replaces it whole: the fields of one class
    mean nothing to another.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value)
            if isinstance(old, Mapping) and isinstance(value, Mapping) and not _renames(old, value)
            else value
        )
    return merged


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The least that, merged over ``old``, gives ``new``; null stands for an entry that is gone."""
    changes: dict[str, Any] = {}
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            if _renames(before, after):
                changes[key] = after
            elif inner := difference(before, after):
                changes[key] = inner
        elif before != after or key not in old:
            changes[key] = after
    return changes


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of every dotted key that differs; one that is not there counts as None."""
    before, after = flatten(old), flatten(new)
    return {
        key: (before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    }


def _renames(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return bool(new.get("name", old.get("name")) != old.get("name"))


def flatten(tree: Mapping[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Nested mappings to one level of keys, joined by ``separator``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}{separator}", separator)
        else:
            flat[path] = value
    return flat
