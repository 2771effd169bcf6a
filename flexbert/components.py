"""Every component a recipe can name, made known; then recipes are read."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import flexbert.nn
import flexbert.optim
import flexbert.recipe
from flexbert.config import load
from flexbert.config.load import LoadedRecipe


def register_all() -> None:
    """Import every file that may register components; a new one is found without a list."""
    for package in (flexbert.nn, flexbert.optim, flexbert.recipe):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def load_recipe(path: Path, overrides: Sequence[str], *, planning: bool = False) -> LoadedRecipe:
    """:func:`flexbert.config.load.load_recipe` with all components registered."""
    register_all()
    return load.load_recipe(path, overrides, planning=planning)
