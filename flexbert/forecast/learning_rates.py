"""The best learning rate of each width, and the rule by which it goes from one to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexbert.errors import UserError
from flexbert.forecast.rungs import LadderRung
from flexbert.statistics import CONFIDENCE, ConfidenceInterval

_WIDTH, _RATE, _INIT = "model.hidden_size", "optimizer.lr", "model.init."
# A parabola is only near the optimum what losses are: rates within this factor of the best.
_NEAR = 6.0
_CONSTANTS = 3
RULES = {"the same rate at every width": 0.0, "1/sqrt(width)": -0.5, "1/width": -1.0}


@dataclass(frozen=True, kw_only=True)
class BestRate:
    """Where a parabola through losses over the logarithm of the rate has its lowest point.

    Attributes:
        interval: of the rate; None where it has no end, or there are too few rates for one.
        deviation: of its logarithm; None where there are too few rates to tell.
        rates: how many the parabola goes through.
    """

    width: int
    rate: float
    interval: ConfidenceInterval | None
    deviation: float | None
    rates: int


@dataclass(frozen=True, kw_only=True)
class TransferRule:
    """How the best rate goes with the width, of one way to initialise.

    Attributes:
        init: its settings.
        losses: by width, pairs of a rate and a loss, from the smallest rate on.
        best: by width.
        unknown: widths that have no best rate, and why.
        exponent: s where the best rate is proportional to width^s; None below three widths.
        rules: those of :data:`RULES` that the exponent's interval holds.
    """

    init: str
    losses: Mapping[int, tuple[tuple[float, float], ...]]
    best: tuple[BestRate, ...]
    unknown: Mapping[int, str]
    exponent: ConfidenceInterval | None
    rules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RatesFound:
    """The rules of all inits.

    Attributes:
        left_out: runs that are not finished, or have no loss.
    """

    rules: tuple[TransferRule, ...]
    left_out: tuple[str, ...]


def transfer_rules(rungs: Sequence[LadderRung]) -> list[TransferRule]:
    """The rule of each init among the runs of a sweep over widths, rates and inits.

    Raises:
        UserError: if the runs differ in anything else that decides the loss.
    """
    groups: dict[str, dict[int, list[tuple[float, float]]]] = {}
    inits: dict[str, dict[str, Any]] = {}
    rest: dict[str, str] = {}
    for rung in rungs:
        settings = {key: json.loads(value) for key, value in rung.settings.items()}
        init = {
            key.removeprefix(_INIT): settings.pop(key)
            for key in list(settings)
            if key.startswith(_INIT)
        }
        width, rate = settings.pop(_WIDTH), settings.pop(_RATE)
        # It may be tied to the width.
        settings.pop("model.mlp.intermediate_size", None)
        others = {key: json.dumps(value) for key, value in settings.items()}
        differing = [key for key in others if rest.setdefault(key, others[key]) != others[key]]
        if differing:
            raise UserError(f"{rung.name}: differs from other runs in {', '.join(differing)} too")
        same = json.dumps(init, sort_keys=True)
        inits[same] = init
        groups.setdefault(same, {}).setdefault(width, []).append((rate, rung.loss))
    return [
        _rule(_label(inits[same], inits.values()), by_width) for same, by_width in groups.items()
    ]


def best_rate(width: int, losses: Sequence[tuple[float, float]]) -> BestRate:
    """The lowest point of a parabola through losses over log rate, near the best one measured.

    Its interval is Fieller's (1954, "Some Problems in Interval Estimation"): the rates at which the
    parabola's slope is not distinguishable from zero. It has no end where the curvature is not
    distinguishable from zero either.

    Args:
        losses: rates, with the loss of each; a rate may come several times, with several seeds.

    Raises:
        ValueError: if the best rate is not among those that were tried.
    """
    from scipy.stats import t

    rates = sorted({rate for rate, _ in losses})
    means = {rate: float(np.mean([one for at, one in losses if at == rate])) for rate in rates}
    best = min(rates, key=lambda rate: means[rate])
    if len(rates) == 1:
        raise ValueError(f"{best:g} is one rate alone: try smaller and larger ones")
    if best in (rates[0], rates[-1]):
        side = "smaller" if best == rates[0] else "larger"
        raise ValueError(f"{best:g} is best, the last of its side: try {side} ones")
    near = [(rate, loss) for rate, loss in losses if best / _NEAR <= rate <= best * _NEAR]
    x = np.log([rate for rate, _ in near]) - math.log(best)
    y = np.array([loss for _, loss in near])
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    slope, curvature = coefficients[1:].tolist()
    if curvature <= 0:
        raise ValueError("losses do not rise to both sides of the best rate")
    lowest = -slope / (2 * curvature)
    interval, deviation = None, None
    freedom = len(near) - _CONSTANTS
    if freedom > 0:
        variance = float(((design @ coefficients - y) ** 2).sum()) / freedom
        covariance = variance * np.linalg.inv(design.T @ design)
        gradient = np.array([0, 1, 2 * lowest]) / (2 * curvature)
        deviation = math.sqrt(float(gradient @ covariance @ gradient))
        ends = _fieller(slope, curvature, covariance, float(t.ppf((1 + CONFIDENCE) / 2, freedom)))
        if ends is not None:
            interval = ConfidenceInterval(
                estimate=best * math.exp(lowest),
                low=best * math.exp(ends[0]),
                high=best * math.exp(ends[1]),
            )
    return BestRate(
        width=width,
        rate=best * math.exp(lowest),
        interval=interval,
        deviation=deviation,
        rates=len({rate for rate, _ in near}),
    )


def exponent_of(best: Sequence[BestRate]) -> ConfidenceInterval | None:
    """The slope of log best rate over log width, with Student's t interval.

    Its standard error is the larger of two: by how far the widths are from a line, and by what each
    width's own rate is uncertain.

    Returns:
        None below three widths.
    """
    from scipy.stats import linregress, t

    if len(best) < _CONSTANTS:
        return None
    x = np.log([each.width for each in best])
    found = linregress(x, np.log([each.rate for each in best]))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    known = [each.deviation or 0.0 for each in best]
    error = max(float(found.stderr), math.sqrt(float(((weights * known) ** 2).sum())))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(best) - 2)) * error
    slope = float(found.slope)
    return ConfidenceInterval(estimate=slope, low=slope - reach, high=slope + reach)


def rules_text(found: RatesFound) -> str:
    """Best rates and rules as lines for people."""
    texts = ["\n".join(_lines(rule)) for rule in found.rules]
    if found.left_out:
        texts.append(f"left out    not finished, or no loss: {', '.join(found.left_out)}")
    return "\n\n".join(texts)


def _label(init: Mapping[str, Any], inits: Collection[Mapping[str, Any]]) -> str:
    """An init's name, and those of its settings that not all inits have."""
    differing = [
        f"{key} {value}"
        for key, value in init.items()
        if key != "name" and any(other.get(key) != value for other in inits)
    ]
    return ", ".join([str(init["name"]), *differing])


def _rule(init: str, by_width: Mapping[int, Sequence[tuple[float, float]]]) -> TransferRule:
    best, unknown = [], {}
    for width, losses in sorted(by_width.items()):
        try:
            best.append(best_rate(width, losses))
        except ValueError as error:
            unknown[width] = str(error)
    exponent = exponent_of(best)
    held = [
        name
        for name, slope in RULES.items()
        if exponent is not None and exponent.low <= slope <= exponent.high
    ]
    return TransferRule(
        init=init,
        losses={width: tuple(sorted(losses)) for width, losses in sorted(by_width.items())},
        best=tuple(best),
        unknown=unknown,
        exponent=exponent,
        rules=tuple(held),
    )


def _fieller(
    slope: float, curvature: float, covariance: np.ndarray, limit: float
) -> tuple[float, float] | None:
    """Where ``(slope + 2 x curvature)^2 <= limit^2 variance(x)``; None where that has no end."""
    square = limit**2
    a = 4 * (curvature**2 - square * covariance[2, 2])
    b = 4 * (slope * curvature - square * covariance[1, 2])
    c = slope**2 - square * covariance[1, 1]
    inside = b**2 - 4 * a * c
    if a <= 0 or inside < 0:
        return None
    root = math.sqrt(inside)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def _lines(rule: TransferRule) -> list[str]:
    lines = [f"init        {rule.init}"]
    for each in rule.best:
        between = (
            "no interval"
            if each.interval is None
            else f"{each.interval.low:.3g} to {each.interval.high:.3g}"
        )
        lines.append(
            f"width {each.width:<6}best rate {each.rate:.3g}, {between}, by {each.rates} rates"
        )
    lines += [f"width {width:<6}no best rate: {why}" for width, why in rule.unknown.items()]
    if rule.exponent is None:
        return [*lines, "rule        not known: it takes three widths with a best rate"]
    found = rule.exponent
    lines.append(
        f"rule        best rate ~ width^{found.estimate:.2f}, {found.low:.2f} to {found.high:.2f}"
    )
    if len(rule.rules) == 1:
        (only,) = rule.rules
        others = " nor ".join(name for name in RULES if name != only)
        lines.append(f"            which is {only}, and neither {others}")
    elif rule.rules:
        lines.append(f"            not decided between {', '.join(rule.rules)}")
    else:
        lines.append(f"            none of {', '.join(RULES)}")
    return lines
