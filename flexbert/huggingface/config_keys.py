"""Tables of config keys, read in both directions.

A :class:`TheirKey` ties one key of a ``config.json`` to the fields of our model that it decides.
Fields that a family cannot vary stand in a second table, those that matter in training alone in a
third. Exporting reads every field of our model's config through these tables, and whatever none of
them names is refused: a field added to a block cannot be forgotten silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# A config as plain containers, flattened to dotted paths: an empty mapping and None are leaves.
Leaves = dict[str, Any]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class TheirKey:
    """One key of ``config.json``.

    Args:
        name: theirs.
        paths: our fields that have its value, all of them the same.
        to_theirs: translates a value on export; raises ValueError for one that has no translation.
        to_ours: the same on import.
        only_training: whether the value changes nothing but training, a dropout for instance. Our
            fields may then differ, and none of them is kept.
    """

    name: str
    paths: tuple[str, ...]
    to_theirs: Callable[[Any], Any] = _same
    to_ours: Callable[[Any], Any] = _same
    only_training: bool = False


@dataclass(frozen=True, kw_only=True)
class Tables:
    """How a family writes a model with a certain head.

    Args:
        keys: what it can vary.
        fixed: our fields that always have one value there.
        only_training: our fields that always have one value there, and only matter in training.
        ignored: our fields that say how to compute, not what; with the value an import gives them.
    """

    keys: tuple[TheirKey, ...]
    fixed: Mapping[str, Any]
    only_training: Mapping[str, Any]
    ignored: Mapping[str, Any]


@dataclass
class Expressed:
    """A model's config in a family's words.

    Args:
        config: keys of ``config.json``.
        problems: each of our fields that it cannot express, and why.
        notes: what is lost and only matters in training.
    """

    config: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def leaves_of(tree: Any, path: str = "") -> Leaves:
    """Nested mappings to dotted paths."""
    if not isinstance(tree, Mapping) or not tree:
        return {path: tree}
    leaves: Leaves = {}
    for key, value in tree.items():
        leaves |= leaves_of(value, f"{path}.{key}" if path else str(key))
    return leaves


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`flatten`."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *nodes, last = path.split(".")
        node = tree
        for key in nodes:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def express(leaves: Leaves, tables: Tables) -> Expressed:
    """Our config in the words of a family."""
    reader = _Reader(leaves)
    result = reader.result
    # Names of blocks first: under a block of another kind nothing else needs saying.
    for path, wanted in sorted(tables.fixed.items(), key=lambda item: not _is_name(item[0])):
        reader.check(path, wanted)
    for path, wanted in tables.only_training.items():
        if reader.has(path) and (value := reader.take(path)) != wanted:
            result.notes.append(f"model.{path} {show(value)} is not kept; it only matters training")
    for key in tables.keys:
        _express_key(key, reader)
    for path in tables.ignored:
        reader.skip(path)
    for path in reader.unread():
        reader.complain(path, f"{show(leaves[path])}")
    return result


def _express_key(key: TheirKey, reader: _Reader) -> None:
    values: dict[str, Any] = {}
    for path in key.paths:
        if reader.has(path):
            try:
                values[path] = key.to_theirs(reader.take(path))
            except ValueError as error:
                reader.complain(path, f"{show(reader.leaves[path])}: {error}")
                return
        else:
            reader.complain_absent(path)
    if not values:
        return
    first, value = next(iter(values.items()))
    other = next((path for path in values if values[path] != value), None)
    if other is None:
        reader.result.config[key.name] = value
    elif key.only_training:
        reader.result.config[key.name] = 0.0
        reader.result.notes.append(
            f"model.{first} {show(value)} and model.{other} {show(values[other])} are one "
            f"{key.name} there, written as 0.0; it only matters in training"
        )
    else:
        reader.complain(
            other, f"{show(values[other])}, while model.{first} is {show(value)}: one {key.name}"
        )


class _Reader:
    """Leaves of which it is known which were read."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self.result = Expressed()
        self._read: set[str] = set()

    def has(self, path: str) -> bool:
        return path in self.leaves

    def take(self, path: str) -> Any:
        self._read.add(path)
        return self.leaves[path]

    def skip(self, node: str) -> None:
        self._read.update(leaf for leaf in self.leaves if _is_under(leaf, node))

    def unread(self) -> Iterable[str]:
        return sorted(self.leaves.keys() - self._read)

    def complain(self, path: str, problem: str) -> None:
        """Report ``path``, once, and nothing more beneath it."""
        if not any(_is_under(path, known) for known in self.result.problems):
            self.result.problems[path] = problem
        self.skip(path)

    def check(self, path: str, wanted: Any) -> None:
        if self.has(path):
            value = self.take(path)
            if value == wanted and isinstance(value, bool) == isinstance(wanted, bool):
                return
            node = path.removesuffix(".name") if _is_name(path) else path
            self.complain(node, f"{show(value)}, always {show(wanted)} there")
        else:
            self.complain_absent(path, f", always {show(wanted)} there")

    def complain_absent(self, path: str, rest: str = "") -> None:
        """Report why there is no leaf: something above is null, or the leaf is a whole node."""
        above = next((leaf for leaf in self.leaves if _is_under(path, leaf)), None)
        if above is not None:
            self.complain(above, f"{show(self.leaves[above])}, always given there")
        elif (name := f"{path}.name") in self.leaves:
            self.complain(path, f"{show(self.leaves[name])}{rest}")
        else:
            is_node = any(_is_under(leaf, path) for leaf in self.leaves)
            self.complain(path, f"{'given' if is_node else 'missing'}{rest}")


def _is_under(path: str, node: str) -> bool:
    return path == node or path.startswith(f"{node}.")


def _is_name(path: str) -> bool:
    return path.endswith(".name")


def show(value: Any) -> str:
    """A value as a recipe writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    return str(value)
