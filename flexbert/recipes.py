"""Recipes, read with every component known and trained models at hand to take a model from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flexbert.components import register_all
from flexbert.config import recipe_files
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.pretrained.architecture import read_architecture


def load_recipe(path: Path, overrides: Sequence[str], *, planning: bool = False) -> LoadedRecipe:
    """:func:`flexbert.config.recipe_files.load_recipe` with all that a recipe may name."""
    register_all()
    return recipe_files.load_recipe(
        path, overrides, planning=planning, architecture_of=read_architecture
    )
