"""Every component a recipe can name, made known; then recipes are read."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import flexbert.data
import flexbert.nn
import flexbert.optim
import flexbert.schedule
from flexbert.config import recipe_files
from flexbert.config.recipe_files import LoadedRecipe


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
