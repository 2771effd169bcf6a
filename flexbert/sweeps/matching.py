"""Widths at which the points of a sweep have as many parameters, or FLOPs, as the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from flexbert.config.encode import encode
from flexbert.config.model import LARGEST_SIZE
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.tree import flatten
from flexbert.errors import ConfigError, UserError, did_you_mean
from flexbert.sweeps.counts import KnownCorpora, counts_of
from flexbert.sweeps.match_rule import COUNTED, MatchRule
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.sweep_file import Sweep

# The recipe of a point with some more values.
Load: TypeAlias = Callable[[SweepPoint, Mapping[str, int]], LoadedRecipe]


def matched_values(sweep: Sweep, load: Load) -> dict[str, dict[str, int]]:
    """What ``match`` gives each point besides its own values, by label; nothing to the reference.

    The count grows with the width, so the nearest width is found by bisection.

    Raises:
        ConfigError: if a point sets a key itself that is to be adjusted, or no width that is a
            multiple comes within the tolerance.
        UserError: if a point's recipe is wrong.
    """
    rule = sweep.match
    if rule is None:
        return {}
    corpora = KnownCorpora()
    try:
        reference = load(sweep.reference, {})
    except UserError as error:
        raise UserError(
            f"match: the reference, {sweep.reference.label}, is not matched, and gives its own "
            f"{rule.key}: {error}"
        ) from None
    wanted = _count(reference, rule, corpora)
    width = _whole(reference, rule.key)
    found: dict[str, dict[str, int]] = {}
    for point in sweep.points:
        if point.label == sweep.reference.label:
            continue
        where = f"point {point.label}"
        for key in rule.keys:
            if key in flatten(point.values):
                raise ConfigError("match", f"{where} sets {key} itself, which is to be adjusted")
        try:
            found[point.label] = _matched(
                point, rule, load, wanted, width, sweep.tolerance, corpora
            )
        except ConfigError as error:
            raise ConfigError("match", f"{where}: {error}") from None
        except UserError as error:
            raise UserError(f"match: {where}: {error}") from None
    return found


def _matched(
    point: SweepPoint,
    rule: MatchRule,
    load: Load,
    wanted: float,
    width: int,
    tolerance: float,
    corpora: KnownCorpora,
) -> dict[str, int]:
    """The values of one point.

    Args:
        wanted: the count of the reference,
        width: and its value of the key.
    """
    unchanged = load(point, {rule.key: width})
    if _count(unchanged, rule, corpora) == wanted:
        return {rule.key: width}
    others = {key: _whole(unchanged, key) for key in rule.in_proportion}
    step = rule.multiple
    for value in others.values():
        step = math.lcm(step, width // math.gcd(width, value))

    counts: dict[int, float] = {}

    def values_at(number: int) -> dict[str, int]:
        own = number * step
        return {rule.key: own, **{key: own * value // width for key, value in others.items()}}

    def count_at(number: int) -> float:
        if number not in counts:
            counts[number] = _count(load(point, values_at(number)), rule, corpora)
        return counts[number]

    high = 1
    while count_at(high) < wanted:
        high *= 2
        if high * step > LARGEST_SIZE:
            raise ConfigError(rule.key, f"no width of it gives the reference's {rule.of}")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_at(middle) < wanted else (low, middle)
    nearest = min((n for n in (low, high) if n), key=lambda n: abs(count_at(n) - wanted))
    off = count_at(nearest) / wanted - 1
    if abs(off) > tolerance:
        shown = ", ".join(f"{key}={value}" for key, value in values_at(nearest).items())
        raise ConfigError(
            "",
            f"no width gives {rule.of} within {100 * tolerance:g} percent of the reference's "
            f"{wanted:,.0f}: the nearest, {shown}, is {100 * off:+.2g} percent off; widths are "
            f"multiples of {step}",
        )
    return values_at(nearest)


def _count(loaded: LoadedRecipe, rule: MatchRule, corpora: KnownCorpora) -> float:
    return float(getattr(counts_of(loaded, corpora), COUNTED[rule.of]))


def _whole(loaded: LoadedRecipe, key: str) -> int:
    """The value of a key that is a size.

    Raises:
        ConfigError: if it is none.
    """
    values = flatten(encode(loaded.first))
    if key not in values:
        sizes = [
            name
            for name, value in values.items()
            if type(value) is int and name.startswith("model.")
        ]
        raise ConfigError("match", f"unknown key {key!r}; {did_you_mean(key, sizes)}")
    value = values[key]
    if type(value) is not int or value < 1:
        raise ConfigError("match", f"{key} is no size that could be adjusted, but {value!r}")
    return value
