"""Laws through rungs, and intervals of runs to come, against closed forms and simulated ladders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats

from flexbert.forecast.fitting import fit_law
from flexbert.forecast.laws import (
    COMPUTE,
    COMPUTE_ALONE,
    PARAMETERS_AND_TOKENS,
    Law,
    Scale,
    curve_through,
    identified_law,
)

E, A, ALPHA, B, BETA = 1.69, 406.4, 0.34, 410.7, 0.28


def scale(parameters: float, tokens: float) -> Scale:
    return Scale(parameters=parameters, tokens=tokens, flops=6 * parameters * tokens)


def hoffmann(at: Scale) -> float:
    """The law of Hoffmann et al. 2022, with the constants of their section D.2."""
    return E + A * at.parameters**-ALPHA + B * at.tokens**-BETA


def of_compute(at: Scale) -> float:
    return float(1.8 + 3000 * at.flops**-0.2)


def power_of_compute(at: Scale) -> float:
    return float(50 * at.flops**-0.07)


GRID = [scale(n, d) for n in (1e6, 2e6, 4e6) for d in (2e8, 4e8, 8e8, 1.6e9)]
# Parameters and tokens grow together, each rung twice the compute of the one before.
PATH = [scale(1e6 * 2 ** (i / 2), 2e8 * 2 ** (i / 2)) for i in range(7)]


def eight_times(rungs: Sequence[Scale]) -> Scale:
    largest = max(rungs, key=lambda rung: rung.flops)
    return scale(largest.parameters * math.sqrt(8), largest.tokens * math.sqrt(8))


def test_without_noise_the_constants_are_those_that_made_the_losses() -> None:
    fitted = fit_law(PARAMETERS_AND_TOKENS, GRID, [hoffmann(rung) for rung in GRID])
    expected = {"E": E, "A": A, "a": ALPHA, "B": B, "b": BETA}
    assert fitted.constants == pytest.approx(expected, rel=1e-3)
    assert fitted.loss_at(eight_times(GRID)) == pytest.approx(hoffmann(eight_times(GRID)), rel=1e-5)


@pytest.mark.parametrize("law", [PARAMETERS_AND_TOKENS, COMPUTE, COMPUTE_ALONE])
def test_slopes_are_those_of_finite_differences(law: Law) -> None:
    curve = curve_through(law, GRID, [hoffmann(rung) for rung in GRID])
    log_x = curve.log_x(GRID)
    at = np.array([-0.7, -0.4, 0.3, -0.9, 0.2])[-law.num_constants :]
    _, slopes = curve.log_loss(at, log_x)
    for column in range(law.num_constants):
        step = np.zeros(law.num_constants)
        step[column] = 1e-6
        high, low = (curve.log_loss(at + way * step, log_x)[0] for way in (1, -1))
        np.testing.assert_allclose(slopes[:, column], (high - low) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_straight_lines_interval_is_the_textbooks() -> None:
    noise = 0.004 * np.random.default_rng(1).standard_normal(len(PATH))
    losses = [power_of_compute(rung) * math.exp(one) for rung, one in zip(PATH, noise, strict=True)]
    target = eight_times(PATH)
    found = fit_law(COMPUTE_ALONE, PATH, losses).prediction(target)
    x, y = np.log([rung.flops for rung in PATH]), np.log(losses)
    line = scipy.stats.linregress(x, y)
    count, to_come = len(x), math.log(target.flops)
    middle = line.intercept + line.slope * to_come
    spread = math.sqrt(((y - line.intercept - line.slope * x) ** 2).sum() / (count - 2))
    further = 1 + 1 / count + (to_come - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    reach = scipy.stats.t.ppf(0.975, count - 2) * spread * math.sqrt(further)
    expected = np.exp([middle - reach, middle, middle + reach])
    np.testing.assert_allclose([found.low, found.estimate, found.high], expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "rungs", "truth", "ladders"),
    [
        (COMPUTE_ALONE, PATH[:4], power_of_compute, 120),
        (COMPUTE, PATH, of_compute, 60),
        (PARAMETERS_AND_TOKENS, GRID, hoffmann, 40),
    ],
)
def test_intervals_at_eight_times_the_compute_hold_the_loss_95_times_of_100(
    law: Law, rungs: list[Scale], truth: Callable[[Scale], float], ladders: int
) -> None:
    draw = np.random.default_rng(20)
    target = eight_times(rungs)
    held = 0
    for _ in range(ladders):
        *noise, of_target = np.exp(0.005 * draw.standard_normal(len(rungs) + 1)).tolist()
        losses = [truth(rung) * one for rung, one in zip(rungs, noise, strict=True)]
        found = fit_law(law, rungs, losses).prediction(target)
        held += found.low <= truth(target) * of_target <= found.high
    # Where the probability is 0.95, so many or more are outside in one of 500 tests.
    few = scipy.stats.binom.ppf(0.002, ladders, 0.95)
    assert few <= held
    if law is COMPUTE_ALONE:
        # Neither are they wider than they must be: fewer than all hold it.
        assert held < ladders


def test_intervals_widen_with_the_distance_to_the_rungs() -> None:
    noise = np.exp(0.004 * np.random.default_rng(3).standard_normal(len(PATH)))
    losses = [of_compute(rung) * one for rung, one in zip(PATH, noise, strict=True)]
    fitted = fit_law(COMPUTE, PATH, losses)
    far = [scale(8e6 * 2**step, 1.6e9 * 2**step) for step in range(4)]
    widths = [(found.high - found.low) / found.estimate for found in map(fitted.prediction, far)]
    assert widths == sorted(widths)
    # Even on a rung a run with another seed ends elsewhere.
    on_a_rung = fitted.prediction(PATH[3])
    assert on_a_rung.high / on_a_rung.estimate - 1 > 2 * fitted.noise.deviation


def test_a_run_that_went_wrong_bends_the_curve_less_than_least_squares() -> None:
    losses = [power_of_compute(rung) for rung in PATH]
    wrong = [*losses[:3], losses[3] * 1.3, *losses[4:]]
    target = eight_times(PATH)
    off = abs(fit_law(COMPUTE_ALONE, PATH, wrong).loss_at(target) / power_of_compute(target) - 1)
    x, y = np.log([rung.flops for rung in PATH]), np.log(wrong)
    line = scipy.stats.linregress(x, y)
    squares = math.exp(line.intercept + line.slope * math.log(target.flops))
    assert off < 0.3 * abs(squares / power_of_compute(target) - 1)


def test_the_noise_between_seeds_is_that_within_rungs() -> None:
    draw = np.random.default_rng(4)
    rungs = [rung for rung in PATH for _ in range(3)]
    numbers = [index for index in range(len(PATH)) for _ in range(3)]
    losses = [of_compute(rung) * math.exp(0.004 * draw.standard_normal()) for rung in rungs]
    noise = fit_law(COMPUTE, rungs, losses, numbers).noise
    within = np.log(losses).reshape(-1, 3).var(axis=1, ddof=1).mean()
    assert noise.between_seeds == pytest.approx(math.sqrt(within), rel=1e-6)
    assert noise.misfit is not None
    assert noise.misfit > 0.05


def test_rungs_that_leave_the_law_by_more_than_seeds_do_make_the_interval_wider() -> None:
    draw = np.random.default_rng(5)
    rungs = [rung for rung in PATH for _ in range(2)]
    numbers = [index for index in range(len(PATH)) for _ in range(2)]
    bent = [1.02 if index % 2 else 0.98 for index in numbers]
    losses = [
        of_compute(rung) * bend * math.exp(0.001 * draw.standard_normal())
        for rung, bend in zip(rungs, bent, strict=True)
    ]
    noise = fit_law(COMPUTE, rungs, losses, numbers).noise
    assert noise.misfit is not None
    assert noise.misfit < 0.001
    # Two seeds of a rung that is off are one witness and not two.
    assert noise.freedom == len(PATH) - COMPUTE.num_constants
    assert noise.deviation > 0.02


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [
        (GRID, PARAMETERS_AND_TOKENS),
        (PATH, COMPUTE),
        (PATH[:4], COMPUTE_ALONE),
        (GRID[:6], COMPUTE),
        ([rung for rung in GRID if rung.parameters < 3e6], COMPUTE),
    ],
)
def test_a_law_has_no_more_constants_than_rungs_determine(
    rungs: list[Scale], expected: Law
) -> None:
    assert identified_law(rungs)[0] is expected


def test_rungs_that_grow_together_are_said_to() -> None:
    assert "grow together (correlation 1.00)" in identified_law(PATH)[1]


@pytest.mark.parametrize(
    "rungs", [PATH[:3], [PATH[0]] * 9, [scale(1e6, 1e8 + i) for i in range(9)]]
)
def test_too_few_rungs_are_refused(rungs: list[Scale]) -> None:
    with pytest.raises(ValueError, match=r"a forecast takes (four|different ones)"):
        identified_law(rungs)


def test_runs_of_one_scale_are_one_rung() -> None:
    with pytest.raises(ValueError, match=r"12 runs are 1 rung, and a forecast takes four"):
        identified_law([PATH[0]] * 12)
    # Seeds weigh a rung no more than another.
    assert identified_law([*GRID, *GRID[:2] * 9]) == identified_law(GRID)


def test_an_exponent_that_the_rungs_do_not_determine_is_said_to_be_none() -> None:
    losses = [1.5 + 40 * rung.tokens**-0.25 for rung in GRID]
    # As if size did not count but for the smallest.
    bent = [
        loss * (1.02 if rung.parameters < 1.5e6 else 1)
        for loss, rung in zip(losses, GRID, strict=True)
    ]
    assert fit_law(PARAMETERS_AND_TOKENS, GRID, bent).undetermined == ("a",)
    whole = fit_law(PARAMETERS_AND_TOKENS, GRID, [hoffmann(rung) for rung in GRID])
    assert whole.undetermined == ()
