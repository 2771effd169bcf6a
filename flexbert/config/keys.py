"""The keys of a recipe with what they declare: by name, or of a config with its values."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Union, get_args, get_origin

from flexbert.config.encode import encode
from flexbert.config.fields import FUNCTION, STAGE, Role, Scope, declared, is_node, type_hints
from flexbert.config.registry import Component, is_family, members
from flexbert.config.tree import flatten

ANY = "*"  # stands for one name of a mapping, or one place of a list


class Leaf(NamedTuple):
    """A key of a config that holds a value and no further keys.

    Attributes:
        path: dotted.
        value: as YAML has it.
    """

    path: str
    value: Any
    role: Role


def nodes_within(hint: Any) -> tuple[str, tuple[type, ...]]:
    """The configs that a field of this type may hold, and what stands between: ``.*`` or nothing.

    Those of a family are all its registered members.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (option,) = (item for item in arguments if item is not type(None))
        return nodes_within(option)
    if origin in (dict, tuple):
        _, inside = nodes_within(arguments[0 if origin is tuple else 1])
        return f".{ANY}", inside
    if is_family(hint):
        return "", tuple(members(hint.family).values())
    return "", (hint,) if is_node(hint) else ()


def places(root: type, path: str = "", within: tuple[type, ...] = ()) -> Iterator[tuple[str, type]]:
    """Every config that may stand in ``root``, with its dotted path; one in itself only once."""
    yield path, root
    for name, hint in type_hints(root).items():
        if name in declared(root):
            between, inside = nodes_within(hint)
            for cls in inside:
                if cls not in (*within, root):
                    here = f"{path}.{name}{between}" if path else f"{name}{between}"
                    yield from places(cls, here, (*within, root))


def role_of(root: type, path: str) -> Role:
    """The role of a key, by its dotted path below ``root``.

    A key that nothing declares, such as one of an earlier version, has its node's role; where the
    members of a family differ, the strictest counts.
    """
    role: Role | None = None
    classes: tuple[type, ...] = (root,)
    parts = iter(path.split("."))
    for part in parts:
        holders = [cls for cls in classes if part in declared(cls)]
        roles = [own.role for cls in holders if (own := declared(cls)[part]) is not None]
        if roles:
            role = roles[0]
            for other in roles[1:]:
                role = role.stricter(other)
        below = [nodes_within(type_hints(cls)[part]) for cls in holders]
        classes = tuple(cls for _, inside in below for cls in inside)
        if any(between for between, _ in below):
            next(parts, None)
    return role or FUNCTION


def leaves(node: Any, path: str = "", role: Role = FUNCTION) -> Iterator[Leaf]:
    """Every key of a config that holds a value.

    Args:
        path: of the config itself.
        role: of what it does not declare.
    """
    prefix = f"{path}." if path else ""
    if isinstance(node, Component):
        yield Leaf(f"{prefix}name", node.name, role)
    for name, own in declared(type(node)).items():
        yield from _leaves_of(getattr(node, name), f"{prefix}{name}", own.role if own else role)


def _leaves_of(value: Any, path: str, role: Role) -> Iterator[Leaf]:
    if is_node(type(value)):
        yield from leaves(value, path, role)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves_of(item, f"{path}.{name}", role)
    else:
        for key, plain in flatten({path: encode(value)}).items():
            yield Leaf(key, plain, role)


def values_in(scope: Scope, node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every key of a config with this scope, whole nodes among them."""
    for name, own in declared(type(node)).items():
        value, here = getattr(node, name), f"{path}.{name}" if path else name
        if own is not None and own.scope is not STAGE:
            if own.scope is scope:
                yield here, value
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if is_node(type(item)):
                    yield from values_in(scope, item, f"{here}.{key}")
        elif is_node(type(value)):
            yield from values_in(scope, value, here)
