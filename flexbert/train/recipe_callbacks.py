"""The callbacks that a recipe names: built for a stage, and their state kept in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer import Callback
from torch import Tensor

from flexbert.config.recipe import Recipe
from flexbert.errors import ConfigError, UserError, first_line

_PLAIN = (str, int, float, bool, type(None))


def build_callbacks(recipe: Recipe, run_folder: Path) -> dict[str, Callback]:
    """A stage's callbacks, by the names that the recipe gives them.

    Raises:
        ConfigError: if what one builds is no callback of Composer's.
    """
    built = {name: config.build(run_folder) for name, config in recipe.callbacks.items()}
    for name, callback in built.items():
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"callbacks.{name}", f"builds {callback!r}, which is no composer.Callback"
            )
    return built


def callback_states(callbacks: Mapping[str, Callback]) -> dict[str, dict[str, Any]]:
    """What the callbacks remember; those that remember nothing are left out.

    Raises:
        ConfigError: if a checkpoint that runs no code when it is read cannot hold it.
    """
    states = {name: callback.state_dict() for name, callback in callbacks.items()}
    for name, state in states.items():
        if (odd := _not_plain(state)) is not None:
            raise ConfigError(
                f"callbacks.{name}",
                f"its state_dict holds a {type(odd).__name__}: give tensors, numbers, strings, and "
                "lists and dicts of these",
            )
    return {name: state for name, state in states.items() if state}


def load_callback_states(
    callbacks: Mapping[str, Callback], states: Mapping[str, dict[str, Any]]
) -> None:
    """Give callbacks of these names what they remembered.

    Raises:
        UserError: if one can make nothing of it.
    """
    for name in callbacks.keys() & states.keys():
        try:
            callbacks[name].load_state_dict(states[name])
        # Anybody's callback, and what it raises of a state that is not its own.
        except Exception as error:
            raise UserError(
                f"callbacks.{name}: cannot take over its state "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error


def _not_plain(value: Any) -> Any:
    """The first thing in nested containers that is no plain data; None if all is."""
    if type(value) is dict:
        items = [*value.keys(), *value.values()]
    elif type(value) in (list, tuple):
        items = list(value)
    else:
        return None if type(value) in (*_PLAIN, Tensor) else value
    return next((odd for item in items if (odd := _not_plain(item)) is not None), None)
