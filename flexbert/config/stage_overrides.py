"""The stages of a recipe: each a set of overrides on the stage before it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

from flexbert.config.encode import encode
from flexbert.config.recipe import Recipe
from flexbert.config.tree import difference, flatten, merge
from flexbert.errors import ConfigError, did_you_mean

STAGES = "stages"
ONLY_STAGE = "pretrain"  # the name of the stage of a recipe that lists none

# What belongs to a run and not to a stage.
RUN_WIDE = (
    "run_name",
    "runs_folder",
    "seed",
    "deterministic",
    "stage",
    "start_from",
    "init_from",
    "plugins",
    "accept_changed_plugins",
    "logging.wandb",
    "logging.tensorboard",
)
# What only a new model is made by, so that a later stage's would do nothing.
ONLY_AT_FIRST = ("model.init",)


def settle_stages(
    base: Mapping[str, Any], own: Mapping[str, Any], merged: Mapping[str, Any], *, reorder: bool
) -> dict[str, Any]:
    """What merging does not know of stages: null takes one of the base's out, and their order.

    A file that lists all stages orders them, so that it can put one between those it includes;
    otherwise its own new ones come last.

    Args:
        own: what was merged over ``base``.
        reorder: whether ``own`` decides the order where it lists all.
    """
    before, listed, stages = base.get(STAGES), own.get(STAGES), merged.get(STAGES)
    if not (isinstance(before, Mapping) and isinstance(listed, Mapping)):
        return dict(merged)
    assert isinstance(stages, Mapping)
    names = listed if reorder and listed.keys() >= stages.keys() else stages
    taken_out = {name for name in before if name in listed and listed[name] is None}
    return {**merged, STAGES: {name: stages[name] for name in names if name not in taken_out}}


def stage_trees(tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The complete tree of every stage, by its name, in order.

    What a stage changes stays changed in those after it.

    Raises:
        ConfigError: if ``stages`` is no mapping of names to overrides.
    """
    listed = tree.get(STAGES) or {ONLY_STAGE: {}}
    complete = {key: value for key, value in tree.items() if key != STAGES}
    if not isinstance(listed, Mapping):
        raise ConfigError(STAGES, "expected a mapping of names to what each stage changes")
    trees = {}
    for name, overrides in listed.items():
        where = f"{STAGES}.{name}"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise ConfigError(where, "a stage's name is of letters, digits, '_' and '-'")
        if not isinstance(overrides, Mapping):
            raise ConfigError(
                where, f"expected a mapping of keys to change ({{}} for none), got {overrides!r}"
            )
        if STAGES in overrides:
            raise ConfigError(f"{where}.{STAGES}", "a stage has no stages of its own")
        complete = merge(complete, overrides)
        trees[str(name)] = complete
    return trees


def decode_stages(
    tree: Mapping[str, Any], decode: Callable[[Mapping[str, Any]], Recipe]
) -> dict[str, Recipe]:
    """Every stage's recipe, by its name, in order.

    Args:
        decode: makes a recipe of a complete tree.

    Raises:
        ConfigError: if a stage is no recipe, changes what it cannot, or ``stage`` names none.
    """
    recipes: dict[str, Recipe] = {}
    for name, complete in stage_trees(tree).items():
        overrides = (tree.get(STAGES) or {}).get(name, {})
        try:
            recipes[name] = recipe = decode(complete)
        except ConfigError as error:
            # Told where it is written: in the stage, or in what all stages begin from.
            in_stage = recipes or any(_overlap(error.path, key) for key in flatten(overrides))
            raise (error.under(f"{STAGES}.{name}") if in_stage else error) from None
        first = next(iter(recipes.values()))
        for key in (*RUN_WIDE, *ONLY_AT_FIRST):
            if _attribute(recipe, key) != _attribute(first, key):
                raise ConfigError(
                    f"{STAGES}.{name}.{key}",
                    "belongs to the whole run, not to a stage"
                    if key in RUN_WIDE
                    else "would do nothing: only the first stage makes a new model",
                )
    chosen = first.stage
    if chosen is not None and chosen not in recipes:
        raise ConfigError("stage", f"unknown stage {chosen!r}; {did_you_mean(chosen, recipes)}")
    if chosen not in (None, next(iter(recipes))) and not (first.start_from or first.init_from):
        raise ConfigError(
            "stage", f"{chosen} would begin from random weights: give start_from or init_from"
        )
    return recipes


def check_overrides(beneath: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse a ``stages.NAME.key=value`` of a stage that the recipe's files do not have.

    Raises:
        ConfigError: naming those that they have.
    """
    stages, given = beneath.get(STAGES), overrides.get(STAGES)
    if isinstance(stages, Mapping) and isinstance(given, Mapping):
        for name in given.keys() - stages.keys():
            raise ConfigError(
                f"{STAGES}.{name}", f"no such stage; {did_you_mean(str(name), map(str, stages))}"
            )


def shadowed(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which ``key=value`` changes nothing from a stage on: it, or one before it, has its own.

    Args:
        tree: the merged recipe, ``overrides`` in it.

    Returns:
        The keys of each stage.
    """
    listed = tree.get(STAGES)
    if not isinstance(listed, Mapping):
        return {}
    given = flatten({key: value for key, value in overrides.items() if key != STAGES})
    own: dict[str, Any] = {}
    keys = {}
    for name, changes in listed.items():
        own |= flatten(changes) if isinstance(changes, Mapping) else {}
        keys[str(name)] = [
            key
            for key, value in given.items()
            if any(_overlap(key, other) and (key != other or value != own[other]) for other in own)
        ]
    return keys


def encode_stages(recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """The inverse of :func:`decode_stages`: the first stage, and what each other one changes."""
    trees = {name: encode(recipe) for name, recipe in recipes.items()}
    names = list(trees)
    changes = {
        name: difference(trees[before], trees[name]) for before, name in itertools.pairwise(names)
    }
    return {**trees[names[0]], STAGES: {names[0]: {}, **changes}}


def _overlap(path: str, key: str) -> bool:
    """Whether one of two dotted paths is the other, or lies below it."""
    return f"{path}.".startswith(f"{key}.") or f"{key}.".startswith(f"{path}.")


def _attribute(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value
