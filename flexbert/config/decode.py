"""Plain containers (what YAML gives) to typed, frozen dataclasses, refusing everything unexpected.

Reads only annotations, so a new field in a dataclass is a new key in YAML and nothing else changes.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from flexbert.config.environment import by_reference as keep_reference
from flexbert.config.fields import Key, declared, is_node, type_hints
from flexbert.config.keys import places
from flexbert.config.registry import Component, is_family, members
from flexbert.config.synonyms import key_hint, name_hint
from flexbert.errors import ConfigError, UserError, config_errors_under, shown

T = TypeVar("T")

MISSING = "???"


def decode(cls: type[T], node: Any, missing: list[str] | None = None) -> T:
    """Turn ``node`` into an instance of the dataclass ``cls``.

    Args:
        node: nested dicts, lists and scalars; ``???`` stands for a value still to be given.
        missing: receives the dotted paths of run-time fields that are ``???``. None refuses them.

    Raises:
        ConfigError: with the dotted path of the first unknown, missing or ill-typed value.
    """
    return _Decoder(cls, missing).value(cls, node, ())


class _Decoder:
    def __init__(self, root: type, missing: list[str] | None) -> None:
        self.root = root
        self.missing = missing

    def value(
        self, tp: Any, node: Any, path: tuple[str, ...], *, by_reference: bool = False
    ) -> Any:
        """
        Args:
            by_reference: whether a text keeps its reference to the environment.
        """
        if isinstance(node, str) and node == MISSING:
            raise ConfigError(_dotted(path), "is still to be given (???)")
        origin = get_origin(tp)
        if origin in (Union, types.UnionType):
            return self._optional(tp, node, path, by_reference)
        if origin is Literal:
            return _literal(tp, node, path)
        if origin is tuple:
            return self._tuple(tp, node, path, by_reference)
        if origin is dict:
            return self._dict(tp, node, path, by_reference)
        if is_family(tp):
            return self._component(tp, node, path)
        if is_node(tp):
            return self._dataclass(tp, node, path)
        return _scalar(tp, node, path, by_reference=by_reference)

    def _optional(self, tp: Any, node: Any, path: tuple[str, ...], by_reference: bool) -> Any:
        options = [option for option in get_args(tp) if option is not type(None)]
        assert len(options) == 1, f"only X | None is a union a recipe can hold, not {tp}"
        if node is None:
            return None
        if options[0] in _SCALARS:
            return _scalar(options[0], node, path, or_null=True, by_reference=by_reference)
        return self.value(options[0], node, path, by_reference=by_reference)

    def _tuple(
        self, tp: Any, node: Any, path: tuple[str, ...], by_reference: bool
    ) -> tuple[Any, ...]:
        items = get_args(tp)
        if isinstance(node, str) or not isinstance(node, Sequence):
            raise ConfigError(_dotted(path), f"expected a list, got {_show(node)}")
        if items[-1] is Ellipsis:
            items = (items[0],) * len(node)
        if len(items) != len(node):
            raise ConfigError(
                _dotted(path), f"expected a list of {len(items)} values, got {len(node)}"
            )
        return tuple(
            self.value(item, value, (*path, str(index)), by_reference=by_reference)
            for index, (item, value) in enumerate(zip(items, node, strict=True))
        )

    def _dict(
        self, tp: Any, node: Any, path: tuple[str, ...], by_reference: bool
    ) -> dict[str, Any]:
        """A mapping of names: null empties it, or takes out an entry that cannot be null."""
        if not isinstance(node, Mapping | None):
            raise ConfigError(_dotted(path), f"expected a mapping, got {_show(node)}")
        item = get_args(tp)[1]
        may_be_null = type(None) in get_args(item)
        return {
            str(key): self.value(item, value, (*path, str(key)), by_reference=by_reference)
            for key, value in (node or {}).items()
            if value is not None or may_be_null
        }

    def _component(self, family: type[Component], node: Any, path: tuple[str, ...]) -> Any:
        known = members(family.family)
        if not isinstance(node, Mapping):
            raise ConfigError(
                _dotted(path),
                f"expected a mapping with a name ({', '.join(sorted(known))}), got {_show(node)}",
            )
        if "name" not in node:
            raise ConfigError(
                _dotted((*path, "name")), f"is missing (known: {', '.join(sorted(known))})"
            )
        name = node["name"]
        if not isinstance(name, str) or name not in known:
            near = name_hint(name if isinstance(name, str) else "", known)
            raise ConfigError(
                _dotted((*path, "name")), f"unknown {family.family} {_show(name)}; {near}"
            )
        rest = {key: value for key, value in node.items() if key != "name"}
        return self._dataclass(known[name], rest, path)

    def _dataclass(self, cls: type[T], node: Any, path: tuple[str, ...]) -> T:
        if not isinstance(node, Mapping):
            raise ConfigError(_dotted(path), f"expected a mapping, got {_show(node)}")
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in node:
            if key not in fields:
                hint = key_hint(path, str(key), fields, self._keys())
                raise ConfigError(_dotted((*path, str(key))), f"unknown key; {hint}")
        hints, keys = type_hints(cls), declared(cls)
        values: dict[str, Any] = {}
        for name, field in fields.items():
            here = (*path, name)
            if name not in node:
                if _is_required(field):
                    raise ConfigError(_dotted(here), "is missing")
            elif (
                isinstance(node[name], str)
                and node[name] == MISSING
                and self.missing is not None
                and _at_run_time(keys[name])
            ):
                self.missing.append(_dotted(here))
                values[name] = None
            else:
                own = keys[name]
                by_reference = own is not None and own.by_reference
                values[name] = self.value(hints[name], node[name], here, by_reference=by_reference)
        with config_errors_under(_dotted(path)):
            return cls(**values)

    def _keys(self) -> Iterator[str]:
        """Dotted path of every key of the whole config."""
        for path, cls in places(self.root):
            for name in declared(cls):
                yield f"{path}.{name}" if path else name


# bool is an int to Python, and never one to the writer of a recipe.
_SCALARS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: ("an integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    # Compared, not converted: an integer may be too large for a float.
    float: (
        "a finite number",
        lambda v: (
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max
        ),
    ),
    str: ("a string", lambda v: isinstance(v, str)),
}


def _scalar(
    tp: Any, node: Any, path: tuple[str, ...], *, or_null: bool = False, by_reference: bool = False
) -> Any:
    where = _dotted(path)
    if hasattr(tp, "parse"):
        try:
            return tp.parse(node)
        except ValueError as error:
            raise ConfigError(where, str(error)) from None
    if tp is Path:
        if not isinstance(node, str) or not node or "\0" in node:
            raise ConfigError(where, f"expected a path, got {_show(node)}")
        return _path(str(node), where)
    description, accepts = _SCALARS[tp]
    if not accepts(node):
        wanted = f"{description} or null" if or_null else description
        raise ConfigError(where, f"expected {wanted}, got {_show(node)}")
    if tp is int and abs(node) >= 2**63:
        raise ConfigError(where, "is an integer beyond 2^63")
    if tp is str and by_reference:
        try:
            return keep_reference(node)
        except (ValueError, UserError) as error:
            raise ConfigError(where, str(error)) from None
    return tp(node)


def _path(text: str, where: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of ~SOMEBODY
        raise ConfigError(where, f"expected a path, and {text} is nobody's home folder") from None


def _literal(tp: Any, node: Any, path: tuple[str, ...]) -> Any:
    options = get_args(tp)
    for option in options:
        if node == option:
            return option  # and not the node: that may know where it is from
    near = name_hint(node if isinstance(node, str) else "", map(str, options))
    raise ConfigError(_dotted(path), f"unknown value {_show(node)}; {near}")


def _at_run_time(key: Key | None) -> bool:
    return key is not None and key.run_time


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _show(node: Any) -> str:
    if node is None:
        return "null"
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, list | tuple):
        return "a list"
    # Python writes out no integer of thousands of digits.
    if isinstance(node, int) and abs(node) >= 2**63:
        return "an integer beyond 2^63"
    return shown(repr(node), 200)
