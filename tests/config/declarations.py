"""What the declarations of keys are tested with: all of them, and values made from their types."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from flexbert.components import register_all
from flexbert.config import plugin_files
from flexbert.config.duration import Duration
from flexbert.config.fields import Key, declared, type_hints
from flexbert.config.keys import nodes_within, places

PARSED = {Duration: Duration(1, "ba")}


class Declared(NamedTuple):
    """A field of a config, at one of the places where it may stand in a recipe."""

    path: str
    cls: type
    name: str
    key: Key

    @property
    def hint(self) -> Any:
        return type_hints(self.cls)[self.name]


def own_places(root: type) -> Iterator[tuple[str, type]]:
    """Every config below ``root`` with its place, without what other tests or plugins register."""
    register_all()
    package = root.__module__.partition(".")[0]
    # A plugin that is a file runs as a module below plugin_files.
    return (
        (path, cls)
        for path, cls in places(root)
        if cls.__module__.partition(".")[0] == package
        and not cls.__module__.startswith(f"{plugin_files.__name__}.")
    )


def undeclared(root: type) -> list[str]:
    """The fields below ``root`` that say nothing of themselves."""
    return sorted(
        {
            f"{cls.__name__}.{name}"
            for _, cls in own_places(root)
            for name, key in declared(cls).items()
            if key is None
        }
    )


def declarations(root: type) -> Iterator[Declared]:
    """Every field below ``root``, with its place; ``*`` stands for a name of a mapping."""
    for path, cls in own_places(root):
        for name, key in declared(cls).items():
            assert key is not None, f"{cls.__name__}.{name}"
            yield Declared(f"{path}.{name}" if path else name, cls, name, key)


def make(cls: type, **values: Any) -> Any:
    """A config whose required keys have any values that they may have."""
    required = {
        field.name: any_value(type_hints(cls)[field.name], declared(cls)[field.name])
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in values
    }
    return cls(**required, **values)


def any_value(hint: Any, key: Key | None) -> Any:
    """A value of this type, within the key's bounds; None for a node."""
    if hint in PARSED:
        return PARSED[hint]
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    if get_origin(hint) is dict:
        return {}
    if get_origin(hint) is tuple:
        return tuple(any_value(item, key) for item in get_args(hint) if item is not Ellipsis)
    if type(None) in get_args(hint):
        return None
    if nodes_within(hint)[1]:
        return None  # what a key declares is checked before nodes are looked into
    if hint in (int, float):
        bounds = key.bounds if key else None
        return next(n for n in (0.5, 1, 3) if (bounds is None or bounds.hold(n)) and hint(n) == n)
    texts: dict[Any, Any] = {str: "some", Path: Path("some"), bool: True}
    return key.one_of[0] if key and key.one_of else texts[hint]
