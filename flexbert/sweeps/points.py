"""What the runs of a sweep differ in: combinations of values of a recipe's keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexbert.config.tree import flatten
from flexbert.errors import ConfigError, did_you_mean
from flexbert.huggingface import config_keys

# A value that is drawn is rounded, so that it reads well and is what it says.
_DIGITS = 3
_SPREADS = ("log", "linear", "choice")
_RANDOM = ("count", "seed", "keys")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A dotted key of a recipe, and its values."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """Values by dotted key, without the seed.

    Attributes:
        label: what tells it from the other points.
    """

    values: Mapping[str, Any]
    label: str


def grid_points(axes: Sequence[Axis]) -> tuple[SweepPoint, ...]:
    """Every combination, the last axis varying first."""
    for axis in axes:
        if len({repr(value) for value in axis.values}) < len(axis.values):
            raise ConfigError(f"grid.{axis.key}", "a value is given twice")
    keys = [axis.key for axis in axes]
    combinations = itertools.product(*(axis.values for axis in axes))
    return labelled_points([dict(zip(keys, values, strict=True)) for values in combinations])


def listed_points(listed: Any) -> tuple[SweepPoint, ...]:
    """Points that are listed one by one, by names or without; an empty one is the base as it is.

    Raises:
        ConfigError: if they are none, or two are the same.
    """
    if not isinstance(listed, (list, Mapping)) or not listed:
        raise ConfigError("list", f"expected mappings, in a list or by names, got {listed!r}")
    named = isinstance(listed, Mapping)
    nodes = listed if isinstance(listed, Mapping) else dict(enumerate(listed))
    values: dict[Any, dict[str, Any]] = {}
    for name, node in nodes.items():
        where = f"list.{name}"
        if not isinstance(node, Mapping):
            raise ConfigError(where, f"expected a mapping, got {node!r}")
        own = values_by_key(node)
        if own in values.values():
            raise ConfigError(where, "is given twice")
        values[name] = own
    if not named:
        return labelled_points(list(values.values()))
    return tuple(SweepPoint(values=own, label=str(name)) for name, own in values.items())


def values_by_key(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key; an empty mapping below is a value, as null is, and not lost."""
    return config_keys.leaves_of(tree) if tree else {}


def random_points(node: Mapping[str, Any]) -> tuple[SweepPoint, ...]:
    """``count`` points, each key's value drawn by itself, the same ones for the same ``seed``.

    ``{log: [1e-4, 1e-2]}`` is uniform in the logarithm, ``{linear: [0, 1]}`` uniform, between whole
    numbers a whole number; ``{choice: [a, b]}`` one of a list.

    Raises:
        ConfigError: if a key's values cannot be drawn.
    """
    for key in node:
        if key not in _RANDOM:
            raise ConfigError(f"random.{key}", f"unknown key; {did_you_mean(key, _RANDOM)}")
    count, seed, keys = node.get("count"), node.get("seed", 17), node.get("keys")
    if type(count) is not int or count < 1:
        raise ConfigError("random.count", f"expected how many points, got {count!r}")
    checked_whole("random.seed", seed, 0)
    spreads = spreads_of(keys, "random.keys")
    draw = np.random.Generator(np.random.PCG64DXSM(seed))
    return labelled_points(
        [{key: _drawn(draw, spread) for key, spread in spreads.items()} for _ in range(count)]
    )


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What values of a key are drawn from.

    Attributes:
        kind: ``log``, ``linear`` or ``choice``.
        ends: the smaller and the larger one; or all choices.
    """

    kind: str
    ends: tuple[Any, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is of whole numbers."""
        return self.kind == "linear" and all(type(end) is int for end in self.ends)

    def rounded(self, value: float) -> float:
        """A number that was drawn, with the digits that it reads well with, between the ends."""
        low, high = self.ends
        return float(min(max(float(f"{value:.{_DIGITS}g}"), low), high))


def checked_whole(where: str, value: Any, at_least: int) -> int:
    """Raises: ConfigError if a value is no whole number, or too small."""
    if type(value) is not int or value < at_least:
        raise ConfigError(where, f"expected a whole number from {at_least}, got {value!r}")
    return value


def spreads_of(keys: Any, where: str) -> dict[str, Spread]:
    """What each key's values are drawn from, by dotted key.

    Args:
        where: the keys stand, for errors.

    Raises:
        ConfigError: if there are none, or a key's values cannot be drawn.
    """
    if not isinstance(keys, Mapping) or not keys:
        raise ConfigError(where, f"expected keys and what is drawn for each, got {keys!r}")
    found: dict[str, Spread] = {}
    for key, ends in flatten(keys).items():
        place, _, kind = key.rpartition(".")
        own = f"{where}.{key}"
        if kind not in _SPREADS or not place:
            raise ConfigError(own, f"expected {', '.join(_SPREADS)} under a key of the recipe")
        if place in found:
            raise ConfigError(own, "a key is drawn in two ways")
        if not isinstance(ends, list) or not ends:
            raise ConfigError(own, f"expected a list, got {ends!r}")
        if kind != "choice":
            _check_ends(own, kind, ends)
        found[place] = Spread(kind=kind, ends=tuple(ends))
    return found


def _check_ends(where: str, kind: str, ends: list[Any]) -> None:
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        raise ConfigError(where, f"expected two numbers, got {ends!r}")
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(where, f"expected a smaller and a larger number, got {ends!r}")
    if kind == "log" and low <= 0:
        raise ConfigError(where, f"expected positive numbers, got {ends!r}")


def _drawn(draw: np.random.Generator, spread: Spread) -> Any:
    if spread.kind == "choice":
        return spread.ends[int(draw.integers(len(spread.ends)))]
    low, high = spread.ends
    if spread.is_whole:
        return int(draw.integers(low, high + 1))
    if spread.kind == "log":
        return spread.rounded(math.exp(draw.uniform(math.log(low), math.log(high))))
    return spread.rounded(draw.uniform(low, high))


def labelled_points(values: Sequence[Mapping[str, Any]]) -> tuple[SweepPoint, ...]:
    """Points that have these values by dotted key."""
    names = short_names([key for own in values for key in own])
    labels = [_label(own, names, _text) for own in values]
    if len(set(labels)) < len(labels):
        # Numbers with many digits, or a number and a text that reads like it.
        labels = [_label(own, names, repr) for own in values]
    return tuple(
        SweepPoint(values=own, label=label) for own, label in zip(values, labels, strict=True)
    )


def shared_label(points: Sequence[SweepPoint], chosen: Sequence[SweepPoint]) -> str | None:
    """The values that several chosen points have, and no other of ``points`` has.

    None if they are none, or points have names, which say more.
    """
    names = short_names([key for point in points for key in point.values])
    if len(chosen) < 2 or any(_label(each.values, names, _text) != each.label for each in chosen):
        return None
    first, *rest = (point.values for point in chosen)
    shared = {key: first[key] for key in first if all(_has(own, key, first[key]) for own in rest)}
    having = [
        point
        for point in points
        if all(_has(point.values, key, value) for key, value in shared.items())
    ]
    return _label(shared, names, _text) if shared and len(having) == len(chosen) else None


def _has(values: Mapping[str, Any], key: str, value: Any) -> bool:
    return key in values and repr(values[key]) == repr(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Of each dotted key as many of its last parts as tell it from the others."""
    distinct = list(dict.fromkeys(keys))

    def last(key: str, count: int) -> str:
        return ".".join(key.split(".")[-count:])

    names = {}
    for key in distinct:
        count = 1
        while any(last(other, count) == last(key, count) for other in distinct if other != key):
            count += 1
        names[key] = last(key, count)
    return names


def _label(values: Mapping[str, Any], names: Mapping[str, str], text: Callable[[Any], str]) -> str:
    return ",".join(f"{names[key]}={text(value)}" for key, value in values.items()) or "base"


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        # {name: megatron, std: 0.02} reads "megatron std 0.02".
        leaves = values_by_key(value).items()
        return " ".join(
            _text(one) if key == "name" else f"{key} {_text(one)}" for key, one in leaves
        )
    return f"{value:g}" if isinstance(value, float) else str(value)
