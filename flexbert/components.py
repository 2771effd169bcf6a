"""Every component a recipe can name, made known."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import flexbert.data
import flexbert.nn
import flexbert.optim
import flexbert.schedule


def register_all() -> None:
    """Import every file that may register components; a new one is found without a list."""
    for package in (flexbert.data, flexbert.nn, flexbert.optim, flexbert.schedule):
        register_package(package)


def register_package(package: ModuleType) -> None:
    """Import every file of a package."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
