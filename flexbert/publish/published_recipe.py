"""A run's recipe as it is published: what was trained and how, not where and on whose account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from flexbert.config.decode import decode
from flexbert.config.recipe import Recipe
from flexbert.config.remote_address import redacted
from flexbert.config.stage_overrides import STAGES, decode_stages
from flexbert.schedule.stages import Stage

# What omegaconf calls a value that is still to be given.
_TO_BE_GIVEN = "???"
# Keys, wherever they stand, that say where things lie or whose account is used. The first have to
# be given again before the recipe can train, the others have defaults.
_PLACES = {"path", "checkpoint", "start_from"}
_LEFT_OUT = {"runs_folder", "remote", "cache", "tokenizer", "wandb", "profiler"}
# A callback may take anything at all.
_CALLBACKS = "callbacks"
_PLACE = re.compile(r"[/~\\]|[A-Za-z]:\\|.*(://|\$\{)", re.DOTALL)
# What the tables of a card say nothing of, and what cannot be decoded without its place.
_NOT_DECODED = ("plugins", "init_from", "start_from", "stage", _CALLBACKS, "logging", "timeouts")


@dataclass(frozen=True, kw_only=True)
class PublishedRecipe:
    """
    Attributes:
        text: YAML; the resolved recipe of the run, with ``???`` for places that are to be given.
        stages: of the run, in order.
    """

    text: str
    stages: tuple[Stage, ...]


def published_recipe(run: Mapping[str, Any]) -> PublishedRecipe:
    """A resolved recipe without paths, addresses, accounts and texts from the environment.

    Args:
        run: of all stages, as a checkpoint or ``config.yaml`` has it.

    Raises:
        ConfigError: if it is none that this version knows.
    """
    published = _without_places(run)
    decodable = _without(published, _NOT_DECODED)
    decodable[STAGES] = {
        name: _without(changes, _NOT_DECODED)
        for name, changes in (published.get(STAGES) or {}).items()
    }
    recipes = decode_stages(decodable, lambda tree: decode(Recipe, tree, missing=[]))
    return PublishedRecipe(
        text=yaml.safe_dump(published, sort_keys=False, allow_unicode=True),
        stages=tuple(Stage(name=name, recipe=recipe) for name, recipe in recipes.items()),
    )


def _without(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in keys}


def _without_places(tree: Mapping[str, Any], within_callbacks: bool = False) -> dict[str, Any]:
    return {
        key: _published(key, value, within_callbacks)
        for key, value in tree.items()
        if key not in _LEFT_OUT
    }


def _published(key: str, value: Any, within_callbacks: bool) -> Any:
    if key in _PLACES and value:
        return _TO_BE_GIVEN
    within_callbacks = within_callbacks or key == _CALLBACKS
    if isinstance(value, Mapping):
        return _without_places(value, within_callbacks)
    if isinstance(value, list):
        return [_published("", item, within_callbacks) for item in value]
    if isinstance(value, str):
        is_hidden = within_callbacks and key != "name"
        is_hidden = is_hidden or _PLACE.match(value) is not None or redacted(value) != value
        return _TO_BE_GIVEN if is_hidden else value
    return value
