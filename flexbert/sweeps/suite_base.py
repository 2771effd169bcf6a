"""A suite of tasks as the base of a sweep: its models, and what such a sweep cannot have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flexbert.errors import ConfigError, UserError
from flexbert.tasks.suite import changes_a_suite

MODELS = "models"
_SEED = "seed="
# What has no sense where the base is a suite, and what does it instead.
_INSTEAD = {
    "search": "flexbert evaluate --design halving searches the grid of a suite",
    "measure": "tables show each task's first metric",
    "match": "the models are given, and have the sizes that they have",
    "tolerance": "the models are given, and have the sizes that they have",
}


def check_suite_keys(tree: Mapping[str, Any]) -> None:
    """Raises: ConfigError if a sweep's file says what a sweep of a suite cannot have."""
    for key, instead in _INSTEAD.items():
        if key in tree:
            raise ConfigError(key, f"the base is a suite: {instead}")


def models_among(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of a command's arguments those that name models, and those that change the suite."""
    changes = [each for each in given if changes_a_suite(each) or each.startswith(_SEED)]
    return [each for each in given if each not in changes], changes


def all_models(tree: Mapping[str, Any], given: Sequence[str]) -> tuple[str, ...]:
    """Those of a sweep's file and of its command.

    Raises:
        ConfigError: if the file's are no list of them.
        UserError: if there is none.
    """
    listed = tree.get(MODELS) or []
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ConfigError(MODELS, f"expected a list of models, also LABEL=MODEL, got {listed!r}")
    if not listed and not given:
        raise UserError("the base is a suite: give a model that it is tried on, or several")
    return (*listed, *given)
