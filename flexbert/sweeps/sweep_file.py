"""What a sweep says: ``SWEEP.yaml``, or a recipe or suite and keys with several values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.recipe_files import SWEEP_BASE, SWEEP_WAYS, overrides_tree, read_tree
from flexbert.config.tree import flatten, merge
from flexbert.errors import ConfigError, UserError, did_you_mean
from flexbert.sweeps.match_rule import MatchRule, read_match, read_tolerance
from flexbert.sweeps.points import (
    Axis,
    SweepPoint,
    grid_points,
    listed_points,
    random_points,
    values_by_key,
)
from flexbert.sweeps.search_space import AdaptiveSearch, check_halving, edge_points, read_search
from flexbert.sweeps.suite_base import MODELS, all_models, check_suite_keys, models_among
from flexbert.tasks.suite import is_suite

_SEED = "seed"
_SEARCH = "search"
_KEYS = (
    *("sweep", SWEEP_BASE, "overrides", *SWEEP_WAYS, "seeds", "measure", "reference"),
    *("match", "tolerance", MODELS),
)
_NAME = re.compile(r"[\w-][\w.-]*")
# What decides of a run where it is not said: what every run has.
DEFAULT_MEASURES = ("eval_loss",)
DEFAULT_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A base, what is changed in it, and what is measured.

    Attributes:
        name: of its folder.
        base: the recipe that every run is of; or a suite.
        overrides: what every run has besides, by dotted key.
        points: what runs differ in but for the seed; the first is what others are compared with
            where nothing else is said.
        seeds: every point is trained with each; none where a suite's tasks have their own.
        measures: names of metrics; runs are compared by the first. None of a suite.
        match: what is adjusted so that points are equal in a count; None adjusts nothing.
        tolerance: by which share counts of two points may differ and be called equal.
        search: draws the points one after another; ``points`` are then the edges of what it draws
            from, to be checked and not trained.
        models: that every point of a suite is tried on, as ``flexbert evaluate`` takes them; None
            where the base is a recipe.
    """

    name: str
    base: Path
    overrides: Mapping[str, Any]
    points: tuple[SweepPoint, ...]
    seeds: tuple[int, ...]
    measures: tuple[str, ...]
    reference: SweepPoint
    match: MatchRule | None = None
    tolerance: float = DEFAULT_TOLERANCE
    search: AdaptiveSearch | None = None
    models: tuple[str, ...] | None = None


def read_sweep(path: Path, given: Sequence[str] = ()) -> Sweep:
    """A sweep's file, or a recipe or suite with ``key=value,value`` for what varies.

    Args:
        given: of the command line. ``key=value`` of a sweep's file changes every run; of a recipe
            one value does, and several are an axis. Where the base is a suite, what changes none of
            its keys is a model.

    Raises:
        UserError: if a file cannot be read, or an override is none.
        ConfigError: if it is no sweep.
    """
    tree = read_tree(path)
    if SWEEP_BASE not in tree:
        return _of_base(path, given, of_suite=is_suite(tree))
    for key in tree:
        if key not in _KEYS:
            raise ConfigError(str(key), f"unknown key; {did_you_mean(str(key), _KEYS)}")
    base = tree[SWEEP_BASE]
    if not isinstance(base, str):
        raise ConfigError(SWEEP_BASE, f"expected the file of a recipe, got {base!r}")
    of_suite = is_suite(read_tree(path.parent / base))
    models: Sequence[str] = ()
    if of_suite:
        check_suite_keys(tree)
        models, given = models_among(given)
    elif MODELS in tree:
        raise ConfigError(MODELS, "the base is a recipe, which trains its own")
    own = _mapping(tree, "overrides")
    overrides = values_by_key(merge(own, overrides_tree(given)))
    points = _points(tree)
    seeds = _seeds(tree["seeds"] if "seeds" in tree else _default_seeds(of_suite))
    measures = () if of_suite else _measures(tree.get("measure", list(DEFAULT_MEASURES)))
    search = None if tree.get(_SEARCH) is None else read_search(_mapping(tree, _SEARCH))
    if search is not None:
        check_halving(search, seeds, measures[0])
        if tree.get("reference") is not None:
            raise ConfigError("reference", "a search's trials are compared with its first one")
        if tree.get("match") is not None:
            raise ConfigError("match", "a search draws points one by one, and matches none")
    return Sweep(
        name=_name(tree.get("sweep", path.stem)),
        base=path.parent / base,
        overrides=_without_seed(overrides),
        points=points,
        seeds=seeds,
        measures=measures,
        reference=_reference(tree.get("reference"), points),
        match=read_match(tree.get("match")),
        tolerance=read_tolerance(tree.get("tolerance", DEFAULT_TOLERANCE)),
        search=search,
        models=all_models(tree, models) if of_suite else None,
    )


def _of_base(path: Path, given: Sequence[str], *, of_suite: bool) -> Sweep:
    fixed: list[str] = []
    axes: list[Axis] = []
    seeds: Sequence[Any] | None = None
    models: Sequence[str] = ()
    if of_suite:
        models, given = models_among(given)
    for text in given:
        key, _, values = text.partition("=")
        several = _several(values)
        if key == _SEED:
            seeds = [overrides_tree([f"{key}={value}"])[_SEED] for value in several]
        elif len(several) > 1:
            trees = [overrides_tree([f"{key}={value}"]) for value in several]
            axes.append(Axis(key=key, values=tuple(_at(tree, key) for tree in trees)))
        else:
            fixed.append(text)
    if not axes:
        example = "defaults.pooling=cls,mean" if of_suite else "model.mlp.activation=gelu,silu"
        raise UserError(
            f"{path}: nothing varies; give a key with several values ({example}), or a sweep's "
            "file, which has a base"
        )
    points = grid_points(axes)
    return Sweep(
        name=_name(path.stem),
        base=path,
        overrides=values_by_key(overrides_tree(fixed)),
        points=points,
        seeds=_seeds(_default_seeds(of_suite) if seeds is None else list(seeds)),
        measures=() if of_suite else DEFAULT_MEASURES,
        reference=points[0],
        models=all_models({}, models) if of_suite else None,
    )


def _default_seeds(of_suite: bool) -> list[int] | None:
    return None if of_suite else [17]


def _at(tree: Any, key: str) -> Any:
    """The value of a dotted key, which may be a mapping."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def _several(text: str) -> list[str]:
    """A text's parts between its commas, but for those in brackets, braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def _points(tree: Mapping[str, Any]) -> tuple[SweepPoint, ...]:
    ways = [way for way in SWEEP_WAYS if tree.get(way) is not None]
    if len(ways) != 1:
        raise ConfigError("grid", f"expected one of {', '.join(SWEEP_WAYS)}, got {ways or 'none'}")
    (way,) = ways
    if way == "list":
        return listed_points(tree[way])
    node = _mapping(tree, way)
    if way == "random":
        return random_points(node)
    if way == _SEARCH:
        return edge_points(read_search(node))
    axes = []
    for key, values in flatten(node).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid.{key}", f"expected a list of values, got {values!r}")
        axes.append(Axis(key=key, values=tuple(values)))
    return grid_points(axes)


def _mapping(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    node = tree.get(key) or {}
    if not isinstance(node, Mapping):
        raise ConfigError(key, f"expected a mapping, got {node!r}")
    return dict(node)


def _without_seed(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    if _SEED in overrides:
        raise ConfigError("overrides.seed", "give seeds: every point is trained with each")
    return overrides


def _name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError("sweep", f"expected a name of letters, digits, -, _ and ., got {name!r}")
    return name


def _seeds(seeds: Any) -> tuple[int, ...]:
    if seeds is None:
        return ()
    if not isinstance(seeds, list) or not seeds:
        raise ConfigError("seeds", f"expected a list of whole numbers, got {seeds!r}")
    for seed in seeds:
        if type(seed) is not int or seed < 0:
            raise ConfigError("seeds", f"expected whole numbers from 0, got {seed!r}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError("seeds", "one is given twice")
    return tuple(seeds)


def _measures(names: Any) -> tuple[str, ...]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or not listed or not all(isinstance(n, str) for n in listed):
        raise ConfigError("measure", f"expected names of metrics, got {names!r}")
    if len(set(listed)) < len(listed):
        raise ConfigError("measure", "one is given twice")
    return tuple(listed)


def _reference(node: Any, points: Sequence[SweepPoint]) -> SweepPoint:
    """The point of a name, or with these values and no others, or alone with them among others."""
    if node is None:
        return points[0]
    labels = [point.label for point in points]
    if isinstance(node, str):
        if node not in labels:
            raise ConfigError("reference", f"no point {node}; {did_you_mean(node, labels)}")
        return points[labels.index(node)]
    if not isinstance(node, Mapping):
        raise ConfigError("reference", f"expected a point's name or its values, got {node!r}")
    wanted = flatten(node).items()
    exact = [point for point in points if wanted == dict(point.values).items()]
    found = exact or [point for point in points if wanted <= dict(point.values).items()]
    if len(found) != 1:
        listed = ", ".join(point.label for point in found or points)
        count = f"no point of {listed} has" if not found else f"{len(found)} points ({listed}) have"
        raise ConfigError("reference", f"{count} these values; expected one")
    return found[0]
