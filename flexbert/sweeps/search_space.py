"""What a sweep's ``search`` says: what keys are drawn from, and how trials are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexbert.config.by_metric import is_own_metric
from flexbert.config.duration import Duration
from flexbert.errors import ConfigError, did_you_mean
from flexbert.sweeps.points import Spread, SweepPoint, checked_whole, labelled_points, spreads_of

TPE, RANDOM = "tpe", "random"
_SAMPLERS = (TPE, RANDOM)
_KEYS = ("sampler", "trials", "seed", "keys", "halving")
_HALVING = ("first", "factor")
_DEFAULT_FACTOR = 3
# Between two ends, and at no round number, which would be a whole one by chance.
_BETWEEN = 0.37


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Successive halving: of the trials that reach a rung, the best go on.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), MLSys 2020.

    Attributes:
        first: rung, in real tokens or in updates of the whole run.
        factor: from a rung to the next; one of so many trials goes on.
    """

    first: Duration
    factor: int


@dataclass(frozen=True, kw_only=True)
class AdaptiveSearch:
    """A search that chooses each trial by what came of those before it.

    Attributes:
        sampler: ``tpe``, the tree-structured Parzen estimator; or ``random``.
        trials: how many, those that were stopped at a rung included.
        spreads: by dotted key.
    """

    sampler: str
    trials: int
    seed: int
    spreads: Mapping[str, Spread]
    halving: Halving | None


def read_search(node: Mapping[str, Any]) -> AdaptiveSearch:
    """A ``search``, as a sweep's file has it.

    Raises:
        ConfigError: if it is none.
    """
    for key in node:
        if key not in _KEYS:
            raise ConfigError(f"search.{key}", f"unknown key; {did_you_mean(str(key), _KEYS)}")
    sampler, seed, keys = node.get("sampler", TPE), node.get("seed", 17), node.get("keys")
    if sampler not in _SAMPLERS:
        raise ConfigError(
            "search.sampler", f"unknown {sampler!r}; {did_you_mean(str(sampler), _SAMPLERS)}"
        )
    checked_whole("search.seed", seed, 0)
    # In an order of their own: to sort a file's keys gives runs no other names.
    spreads = dict(sorted(spreads_of(keys, "search.keys").items()))
    for key, spread in spreads.items():
        # As a trial is labelled: alone.
        labels = [labelled_points([{key: end}])[0].label for end in spread.ends]
        if len(set(labels)) < len(labels):
            raise ConfigError(f"search.keys.{key}", "a value is given twice")
    halving = node.get("halving")
    return AdaptiveSearch(
        sampler=sampler,
        trials=checked_whole("search.trials", node.get("trials"), 1),
        seed=seed,
        spreads=spreads,
        halving=None if halving is None else _halving(halving),
    )


def check_halving(search: AdaptiveSearch, seeds: tuple[int, ...], measure: str) -> None:
    """See that what trials are compared by at a rung is known there.

    Raises:
        ConfigError: if it is not.
    """
    if search.halving is None:
        return
    if len(seeds) > 1:
        raise ConfigError(
            "search.halving", "stops a trial while its run trains, so it has one seed; give one"
        )
    if not is_own_metric(measure):
        raise ConfigError(
            "search.halving",
            f"compares by what evaluations measure, and {measure!r} is not; give a measure such as "
            "eval_loss first",
        )


def edge_points(search: AdaptiveSearch) -> tuple[SweepPoint, ...]:
    """Points that try every choice, both ends of a range and a number between, one key at a time.

    What a recipe refuses of them is seen before a trial is drawn, and what changes nothing too.
    """
    tried = {key: _tried(spread) for key, spread in search.spreads.items()}
    first = {key: values[0] for key, values in tried.items()}
    changed = [{**first, key: value} for key, values in tried.items() for value in values[1:]]
    return labelled_points([first, *changed])


def _tried(spread: Spread) -> list[Any]:
    if spread.kind == "choice":
        return list(spread.ends)
    low, high = spread.ends
    if spread.is_whole:
        return [low, high]
    between = low ** (1 - _BETWEEN) * high**_BETWEEN if spread.kind == "log" else None
    if between is None:
        between = low + _BETWEEN * (high - low)
    return list(dict.fromkeys([float(low), spread.rounded(between), float(high)]))


def _halving(node: Any) -> Halving:
    if not isinstance(node, Mapping):
        raise ConfigError("search.halving", f"expected a mapping, got {node!r}")
    for key in node:
        if key not in _HALVING:
            raise ConfigError(
                f"search.halving.{key}", f"unknown key; {did_you_mean(str(key), _HALVING)}"
            )
    try:
        first = Duration.parse(node.get("first"))
    except ValueError as error:
        raise ConfigError("search.halving.first", str(error)) from None
    if first.unit == "dur" or first.value < 1:
        raise ConfigError(
            "search.halving.first", f"expected tokens or updates of a run, got {first}"
        )
    factor = checked_whole("search.halving.factor", node.get("factor", _DEFAULT_FACTOR), 2)
    return Halving(first=first, factor=factor)
