"""Plugins in a run of many processes, and in one that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexbert.config.plugins import differences
from flexbert.config.recipe import Recipe
from flexbert.errors import UserError
from flexbert.train.processes.peers import Peers


def check_same_plugins(recipe: Recipe, peers: Peers) -> None:
    """Every process has imported the same: on another machine a file may be another one.

    Raises:
        UserError: on every process, if one has another version than the first.
    """
    own = {"plugins": [plugin.plain() for plugin in recipe.plugins]}
    first, *others = peers.gather("comparing plugins", own)
    for rank, other in enumerate(others, start=1):
        if changed := "; ".join(differences(first, other)):
            raise UserError(f"plugins: not the same on processes 0 and {rank}: {changed}")


def refuse_changed_plugins(
    run_folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[str]:
    """A run continues with the plugins it began with, in their versions, wherever they are.

    Args:
        old, new: resolved recipes.

    Returns:
        Notes on what is different, where that is accepted.

    Raises:
        UserError: naming what is different, where it is not.
    """
    changed = "; ".join(differences(old, new))
    if changed and not new["accept_changed_plugins"]:
        raise UserError(
            f"{run_folder} was begun with other plugins: {changed}. Give those, or another "
            "run_name; to go on with these: accept_changed_plugins=true"
        )
    return [f"warning: other plugins than so far: {changed}"] if changed else []
