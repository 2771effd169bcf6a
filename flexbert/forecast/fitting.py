"""A law through rungs, and what it says of a run that was not trained, with an interval.

The fit is the third approach of Hoffmann et al. 2022 ("Training Compute-Optimal Large Language
Models", 3.3): Huber's loss of the difference of logarithms, the best of many starts. Their delta of
1e-3 fits hundreds of points; a ladder has few, so it is wide here: plain least squares, but for a
run that went wrong.

The interval is that of the profile predictive likelihood (Bjornstad 1990, "Predictive Likelihood: A
Review"). The run to come is added to the rungs with a loss y, and all constants are fitted again: y
belongs to the interval while that costs no more than Student's t allows. For a straight line this
is exactly the textbook's prediction interval. Unlike it, or the delta method, it needs no law that
is nearly linear in its constants, and these are not; and unlike a bootstrap, it needs no more rungs
than the fit. It widens with the distance to the rungs, and has in it that a run with another seed
ends elsewhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flexbert.forecast.laws import (
    LARGEST_EXPONENT,
    LEAST_EXPONENT,
    Law,
    LawCurve,
    Scale,
    curve_through,
)
from flexbert.statistics import CONFIDENCE, ConfidenceInterval

# Residuals of the logarithm beyond which a run counts as one that went wrong.
DELTA = 0.03
_STARTS = 8
_FARTHEST = 4.0  # in logarithms, of an end of an interval
_LACK_OF_FIT = 0.05


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far a run ends from the law.

    Attributes:
        deviation: of the logarithm of a run's loss.
        freedom: degrees of freedom that it is known with.
        between_seeds: the deviation among runs that differ in the seed alone; None without such.
        misfit: how probable the distance of rungs from the law is if seeds alone made it; None
            where no rung has two seeds.
    """

    deviation: float
    freedom: int
    between_seeds: float | None
    misfit: float | None


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """A law through rungs.

    Attributes:
        scales, losses: of the rungs.
        unknowns: of the curve ``[P]``, in its units.
    """

    curve: LawCurve
    scales: tuple[Scale, ...]
    losses: tuple[float, ...]
    unknowns: tuple[float, ...]
    noise: Noise

    @property
    def law(self) -> Law:
        return self.curve.law

    @property
    def constants(self) -> dict[str, float]:
        return self.curve.constants(np.array(self.unknowns))

    @property
    def undetermined(self) -> tuple[str, ...]:
        """The exponents that the search ended at a bound with: the rungs do not determine them."""
        return tuple(
            name
            for name, value in self.constants.items()
            if name.islower() and (value < 1.01 * LEAST_EXPONENT or value > 0.99 * LARGEST_EXPONENT)
        )

    def loss_at(self, scale: Scale) -> float:
        """The loss that the law has there."""
        log_loss, _ = self.curve.log_loss(np.array(self.unknowns), self.curve.log_x([scale]))
        return self.curve.loss * math.exp(float(log_loss[0]))

    def prediction(self, scale: Scale, confidence: float = CONFIDENCE) -> ConfidenceInterval:
        """The loss of one run to come, and the interval that it lies in."""
        from scipy.stats import t

        problem = _problem(self.curve, self.scales, self.losses)
        log_x = self.curve.log_x([scale])
        begin = np.array(self.unknowns)
        centre, _ = self.curve.log_loss(begin, log_x)
        least = _cost(problem, begin)
        limit = float(t.ppf((1 + confidence) / 2, self.noise.freedom))

        def excess(to_come: float, warm: list[np.ndarray]) -> float:
            """By how much more than t deviations the residuals grow, as a distance."""
            cost, warm[0] = _search(problem.with_run(log_x, to_come), warm[0])
            return math.sqrt(2 * max(0.0, cost - least)) / self.noise.deviation - limit

        ends = [
            _crossing(
                lambda distance, way=way, warm=[begin]: excess(  # type: ignore[misc]
                    float(centre[0]) + way * distance, warm
                ),
                limit * self.noise.deviation,
            )
            for way in (-1, 1)
        ]
        middle = self.curve.loss * math.exp(float(centre[0]))
        return ConfidenceInterval(
            estimate=middle, low=middle * math.exp(-ends[0]), high=middle * math.exp(ends[1])
        )


def fit_law(
    law: Law,
    scales: Sequence[Scale],
    losses: Sequence[float],
    rungs: Sequence[int] | None = None,
) -> FittedLaw:
    """Lay a law through rungs.

    Args:
        losses: in nats, one for each scale.
        rungs: of each run the rung that it is of: runs of one rung differ in their seed alone.
            None: each is a rung of its own.

    Raises:
        ValueError: if there are no more runs than constants.
    """
    curve = curve_through(law, scales, losses)
    problem = _problem(curve, scales, losses)
    if len(losses) <= law.num_constants:
        raise ValueError(f"{len(losses)} runs do not determine {law.num_constants} constants")
    starts = curve.starts(problem.log_x, problem.log_loss, _STARTS)
    _, best = min((_search(problem, start) for start in starts), key=lambda found: found[0])
    named = list(range(len(losses))) if rungs is None else list(rungs)
    return FittedLaw(
        curve=curve,
        scales=tuple(scales),
        losses=tuple(losses),
        unknowns=tuple(best.tolist()),
        noise=_noise(problem, best, named),
    )


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Rungs to lay a curve through; the last of them may be a run to come.

    Attributes:
        log_x: ``[R, number of terms]``
        log_loss: ``[R]``, in units of the curve's.
    """

    curve: LawCurve
    log_x: np.ndarray
    log_loss: np.ndarray
    to_come: bool = False

    def with_run(self, log_x: np.ndarray, log_loss: float) -> _Problem:
        return _Problem(
            curve=self.curve,
            log_x=np.concatenate([self.log_x, log_x]),
            log_loss=np.append(self.log_loss, log_loss),
            to_come=True,
        )

    def residuals(self, unknowns: np.ndarray) -> np.ndarray:
        return self.curve.log_loss(unknowns, self.log_x)[0] - self.log_loss

    def slopes(self, unknowns: np.ndarray) -> np.ndarray:
        return self.curve.log_loss(unknowns, self.log_x)[1]

    def weigh(self, squares: np.ndarray) -> np.ndarray:
        """Huber's function of squares in units of delta, with two derivatives: ``[3, R]``.

        A run to come is no outlier, wherever it may end.
        """
        far = squares > 1
        if self.to_come:
            far[-1] = False
        root = np.sqrt(np.where(far, squares, 1.0))
        return np.stack(
            [
                np.where(far, 2 * root - 1, squares),
                np.where(far, 1 / root, 1.0),
                np.where(far, -0.5 / root**3, 0.0),
            ]
        )


def _problem(curve: LawCurve, scales: Sequence[Scale], losses: Sequence[float]) -> _Problem:
    return _Problem(
        curve=curve,
        log_x=curve.log_x(scales),
        log_loss=np.log(np.array(losses) / curve.loss),
    )


def _cost(problem: _Problem, unknowns: np.ndarray) -> float:
    squares = (problem.residuals(unknowns) / DELTA) ** 2
    return 0.5 * DELTA**2 * float(problem.weigh(squares)[0].sum())


def _search(problem: _Problem, start: np.ndarray) -> tuple[float, np.ndarray]:
    """The least cost that is reached from a start, and where."""
    from scipy.optimize import least_squares

    low, high = problem.curve.law.bounds()
    found = least_squares(
        problem.residuals,
        np.clip(start, low + 1e-6, high - 1e-6),
        problem.slopes,
        bounds=(low, high),
        loss=problem.weigh,
        f_scale=DELTA,
        x_scale="jac",
        ftol=1e-9,
        xtol=1e-9,
        gtol=1e-12,
        max_nfev=200,
    )
    return float(found.cost), found.x


def _noise(problem: _Problem, best: np.ndarray, rungs: Sequence[int]) -> Noise:
    """From all runs; where rungs are further from the law than seeds explain, from rungs alone."""
    from scipy.stats import f

    constants = problem.curve.law.num_constants
    whole = 2 * _cost(problem, best)
    freedom = len(rungs) - constants
    deviation = math.sqrt(max(whole, 1e-16) / freedom)
    groups: dict[int, list[float]] = {}
    for rung, log_loss in zip(rungs, problem.log_loss.tolist(), strict=True):
        groups.setdefault(rung, []).append(log_loss)
    pure = sum(float(np.var(values)) * len(values) for values in groups.values())
    pure_freedom = len(rungs) - len(groups)
    spare = len(groups) - constants
    if not pure_freedom or not pure:
        return Noise(deviation=deviation, freedom=freedom, between_seeds=None, misfit=None)
    between_seeds = math.sqrt(pure / pure_freedom)
    misfit = None
    if spare > 0:
        beyond = max(0.0, whole - pure) / spare
        misfit = float(f.sf(beyond * pure_freedom / pure, spare, pure_freedom))
        if misfit < _LACK_OF_FIT:
            deviation, freedom = math.sqrt(beyond), spare
    return Noise(
        deviation=max(deviation, between_seeds),
        freedom=freedom,
        between_seeds=between_seeds,
        misfit=misfit,
    )


def _crossing(excess: Callable[[float], float], step: float) -> float:
    """The distance at which the excess, negative at zero, becomes positive.

    One that is farther than any loss may be, a factor of fifty, ends there: the rungs tell nothing.
    """
    from scipy.optimize import brentq

    remembered = functools.cache(excess)
    near, far = 0.0, step
    while remembered(far) < 0:
        if far > _FARTHEST:
            return far
        near, far = far, 2 * far
    if near == 0.0 and remembered(0.0) >= 0:
        return 0.0
    return float(brentq(remembered, near, far, xtol=1e-5, rtol=1e-4))
