"""The page of all keys, ``docs/reference/keys.md``, from what keys declare and docstrings say.

``python -m flexbert.key_reference`` prints it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from flexbert.components import register_all
from flexbert.config.backend_choice import BackendChoice
from flexbert.config.duration import Duration
from flexbert.config.encode import encode
from flexbert.config.fields import Bounds, Key, Role, Scope, declared, is_node, type_hints
from flexbert.config.keys import places
from flexbert.config.layer_windows import LayerWindows
from flexbert.config.num_bytes import NumBytes
from flexbert.config.plugins import Plugin
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import DEFAULTS
from flexbert.config.registry import Component, is_family, members
from flexbert.config.remote_address import RemoteAddress
from flexbert.config.yaml_text import value_text

INTRODUCTION = """# Keys of a recipe

Every key with its meaning, its type, its bounds, its default and its role. `make reference` writes
this page from the code. `include` and `stages` are explained in [recipes.md](../recipes.md),
components in [blocks.md](../blocks.md).

A key's role says what another value changes, and so what may change when a run resumes:

{roles}

Each stage may change a key, except where the page says that all stages have the same."""

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    Duration: "duration (`3e9tok`, `500ba`, `0.1dur`)",
    NumBytes: "amount (`500mb`, `200gb`)",
    RemoteAddress: "address, or folder",
    BackendChoice: "name, or one for `global` and one for `local` layers",
    Plugin: "file, module or entry point, or `{name: ..., version: ...}`",
    LayerWindows: "`global`, a width in tokens, a list of these, or `{repeat: ..., LAYERS: ...}`",
}
_SCOPES = {
    Scope.STAGE: "",
    Scope.RUN: ", the same in all stages",
    Scope.FIRST_STAGE: ", used by the first stage alone",
}


def page() -> str:
    """The whole page, in Markdown."""
    register_all()
    roles = "\n".join(f"- **{role}**: {_meanings(Role)[role.name]}" for role in Role)
    nodes: dict[type, list[str]] = {}
    for path, cls in places(Recipe):
        nodes.setdefault(cls, []).append(path)
    sections = [
        _node(cls, where[0]) for cls, where in nodes.items() if not issubclass(cls, Component)
    ]
    by_family: dict[str, dict[str, None]] = {}
    for cls, where in nodes.items():
        if issubclass(cls, Component):
            by_family.setdefault(cls.family, {}).update(dict.fromkeys(where))
    sections += [_family(family, list(where)) for family, where in by_family.items()]
    return "\n\n".join([INTRODUCTION.format(roles=roles), *sections]) + "\n"


def meaning(cls: type, name: str) -> str | None:
    """What the docstring of a config, or of its base class, says of a field."""
    return next((found[name] for base in cls.__mro__ if name in (found := _meanings(base))), None)


def _meanings(cls: type) -> dict[str, str]:
    """The entries of a docstring's ``Attributes``."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    _, _, section = text.partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: _markdown(entry) for name, entry in entries}


def _markdown(text: str) -> str:
    """A docstring's words in one line, without reStructuredText."""
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


def _summary(cls: type) -> str:
    return _markdown((inspect.getdoc(cls) or "").split("\n\n")[0])


def _node(cls: type, path: str) -> str:
    heading = f"## `{path}`" if path else "## Top level"
    return "\n".join([heading, "", _summary(cls), "", *_keys(cls, path)])


def _family(family: str, where: list[str]) -> str:
    lines = [f"## {family}", "", f"A node at {', '.join(f'`{path}`' for path in where)}."]
    for name, cls in sorted(members(family).items()):
        own = list(_keys(cls, "")) or ["No keys."]
        lines += ["", f"### `{family}: {{name: {name}}}`", "", _summary(cls), "", *own]
    return "\n".join(lines)


def _keys(cls: type, path: str) -> Iterator[str]:
    """An item for every key of a config; its lines break where the meaning ends."""
    for field in dataclasses.fields(cls):
        own, hint = declared(cls)[field.name], type_hints(cls)[field.name]
        dotted = f"{path}.{field.name}" if path else field.name
        facts = [_type(hint, own), _default(field, dotted)]
        if own is not None:
            facts.append(f"**{own.role}**{_SCOPES[own.scope]}")
        yield f"- `{dotted}`: {meaning(cls, field.name)}\\\n  {'; '.join(facts)}"


def _type(hint: Any, key: Key | None) -> str:
    """The type, the unit and the bounds in words."""
    null = type(None) in get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    words = _one_of(key.one_of) if key is not None and key.one_of else _type_words(hint)
    if key is not None and key.unit:
        words += f" in {key.unit}"
    if key is not None and key.bounds != Bounds():
        words += f", {key.bounds}"
    return f"{words}, or null" if null else words


def _type_words(hint: Any) -> str:
    arguments = [item for item in get_args(hint) if item is not Ellipsis]
    if get_origin(hint) is Literal:
        return _one_of(arguments)
    if get_origin(hint) is tuple:
        item = _type_words(arguments[0])
        return f"list of {len(arguments)}: {item}" if len(arguments) > 1 else f"list: {item}"
    if get_origin(hint) is dict:
        return f"mapping of names: {_type(arguments[1], None)}"
    if is_family(hint) and not members(hint.family):
        return f"{hint.family} of a plugin"
    if is_family(hint):
        return f"[{hint.family}](#{hint.family})"
    if is_node(hint):
        return f"[node](#{_anchor(hint)})"
    return _WORDS[hint]


def _one_of(names: Sequence[str]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} or {last}"


def _anchor(cls: type) -> str:
    """Where the page describes a config, as GitHub makes it of a heading."""
    path = next(path for path, other in places(Recipe) if other is cls)
    return re.sub(r"[^\w-]", "", path)


def _default(field: dataclasses.Field[Any], path: str) -> str:
    value: Any = _default_component(path)
    if value is None:
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if is_node(type(value)):
        return "default: those of its keys"
    return f"default `{value_text(encode(value))}`"


def _default_component(path: str) -> Mapping[str, Any] | None:
    """The node that lies beneath every recipe at this path."""
    node: Any = DEFAULTS
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) and "name" in node else None


if __name__ == "__main__":
    print(page(), end="")
