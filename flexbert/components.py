"""Every component a recipe can name, made known; then recipes are read.

``python -m flexbert.components`` prints them all as a table.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import flexbert.data
import flexbert.nn
import flexbert.optim
import flexbert.schedule
from flexbert.config import recipe_files
from flexbert.config.encode import encode
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.registry import Component, families, members


def register_all() -> None:
    """Import every file that may register components; a new one is found without a list."""
    for package in (flexbert.data, flexbert.nn, flexbert.optim, flexbert.schedule):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def load_recipe(path: Path, overrides: Sequence[str], *, planning: bool = False) -> LoadedRecipe:
    """:func:`flexbert.config.recipe_files.load_recipe` with all components registered."""
    register_all()
    return recipe_files.load_recipe(path, overrides, planning=planning)


def component_table() -> str:
    """Every family's members, their keys with defaults, and what they are, in Markdown."""
    register_all()
    lines = ["| family | name | keys | what |", "| --- | --- | --- | --- |"]
    for family in families():
        for name, cls in sorted(members(family).items()):
            what = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).replace("``", "`")
            keys = ", ".join(f"`{key}`" for key in _keys(cls))
            lines.append(f"| {family} | `{name}` | {keys} | {what} |")
    return "\n".join(lines)


def _keys(cls: type[Component]) -> Iterator[str]:
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING:
            yield field.name
        else:
            default = encode(field.default)
            plain = {None: "null", True: "true", False: "false"}
            shown = plain[default] if default is None or isinstance(default, bool) else default
            yield f"{field.name}: {shown}"


if __name__ == "__main__":
    print(component_table())
