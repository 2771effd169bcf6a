"""Best learning rates and their rule, against constrained fits and scipy."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from flexbert.errors import UserError
from flexbert.forecast.laws import Scale
from flexbert.forecast.learning_rates import BestRate, best_rate, exponent_of, transfer_rules
from flexbert.forecast.rates_picture import draw_rates
from flexbert.forecast.rungs import LadderRung

RATES = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]


def parabola(rate: float, best: float) -> float:
    return 4 + 0.1 * math.log(rate / best) ** 2


def noisy(best: float, seed: int, noise: float = 0.01) -> list[tuple[float, float]]:
    draw = np.random.default_rng(seed)
    return [(rate, parabola(rate, best) + noise * draw.standard_normal()) for rate in RATES]


def rung(width: int, rate: float, loss: float, init: str, depth: int = 4) -> LadderRung:
    settings = {
        "model.hidden_size": width,
        "model.mlp.intermediate_size": 3 * width // 2,
        "model.num_layers": depth,
        "model.init.name": init,
        "optimizer.lr": rate,
    }
    return LadderRung(
        name=f"{width}-{rate}-{init}",
        scale=Scale(parameters=width**2, tokens=1e6, flops=6e6 * width**2),
        loss=loss,
        settings={key: json.dumps(value) for key, value in settings.items()},
    )


def test_the_lowest_point_of_a_parabola_is_found_between_rates() -> None:
    found = best_rate(64, [(rate, parabola(rate, 2.9e-3)) for rate in RATES])
    assert found.rate == pytest.approx(2.9e-3, rel=1e-9)
    # 5e-4 is further than a factor of 6 from 4e-3, the best of those that were tried.
    assert found.rates == 5


def test_the_interval_is_that_of_fits_that_are_held_to_a_lowest_point() -> None:
    losses = noisy(2.9e-3, seed=2)
    found = best_rate(64, losses)
    assert found.interval is not None
    best = min(losses, key=lambda pair: pair[1])[0]
    near = [pair for pair in losses if best / 6 <= pair[0] <= best * 6]
    x, y = np.log([rate for rate, _ in near]), np.array([loss for _, loss in near])

    def squares(design: np.ndarray) -> float:
        return float(((design @ np.linalg.lstsq(design, y, rcond=None)[0] - y) ** 2).sum())

    free = squares(np.stack([np.ones_like(x), x, x**2], axis=1))
    freedom = len(near) - 3
    limit = scipy.stats.f.ppf(0.95, 1, freedom)
    for rate in (found.interval.low, found.interval.high):
        # With its lowest point there, a parabola has one constant less.
        held = squares(np.stack([np.ones_like(x), (x - math.log(rate)) ** 2], axis=1))
        assert (held - free) / (free / freedom) == pytest.approx(limit, rel=1e-6)


def test_intervals_hold_the_best_rate_95_times_of_100() -> None:
    held = 0
    for seed in range(400):
        found = best_rate(64, noisy(2.9e-3, seed=seed)).interval
        held += found is None or found.low <= 2.9e-3 <= found.high
    assert 0.92 < held / 400 < 0.98


@pytest.mark.parametrize("best", [3e-4, 3e-2])
def test_a_best_rate_at_the_end_of_those_tried_is_none(best: float) -> None:
    with pytest.raises(ValueError, match=r"the last of its side: try (smaller|larger) ones"):
        best_rate(64, [(rate, parabola(rate, best)) for rate in RATES])


def test_one_rate_is_the_last_of_both_sides() -> None:
    with pytest.raises(ValueError, match=r"0\.003 is one rate alone: try smaller and larger ones"):
        best_rate(64, [(3e-3, 4.1), (3e-3, 4.2)])


def test_the_exponent_is_scipys() -> None:
    widths, rates = [64, 128, 256, 512], [4.1e-3, 2.0e-3, 1.1e-3, 4.8e-4]
    best = [
        BestRate(width=width, rate=rate, interval=None, deviation=None, rates=5)
        for width, rate in zip(widths, rates, strict=True)
    ]
    found = exponent_of(best)
    line = scipy.stats.linregress(np.log(widths), np.log(rates))
    reach = scipy.stats.t.ppf(0.975, 2) * line.stderr
    assert found is not None
    np.testing.assert_allclose(
        [found.low, found.estimate, found.high],
        [line.slope - reach, line.slope, line.slope + reach],
    )
    assert exponent_of(best[:2]) is None


@pytest.mark.parametrize(
    ("slope", "expected"),
    [(0.0, "the same rate at every width"), (-0.5, "1/sqrt(width)"), (-1.0, "1/width")],
)
def test_each_init_has_the_rule_that_made_its_losses(slope: float, expected: str) -> None:
    draw = np.random.default_rng(7)
    rungs = []
    for width, rate in itertools.product((64, 128, 256, 512), RATES):
        own = 2.8e-3 * (width / 181) ** slope
        noise = 0.003 * draw.standard_normal(2)
        rungs.append(rung(width, rate, parabola(rate, own) + noise[0], "megatron"))
        rungs.append(rung(width, rate, parabola(rate, 2.8e-3) + noise[1], "fan_in"))
    first, second = transfer_rules(rungs)
    assert first.init == "megatron"
    assert first.rules == (expected,)
    assert second.rules == ("the same rate at every width",)


def test_rates_and_rules_are_drawn(tmp_path: Path) -> None:
    rungs = [
        rung(width, rate, parabola(rate, 0.2 / width), init)
        for width, rate, init in itertools.product((64, 128, 256), RATES, ("megatron", "fan_in"))
    ]
    rules = transfer_rules(rungs)
    assert rules[0].losses[64] == tuple((rate, parabola(rate, 0.2 / 64)) for rate in RATES)
    assert draw_rates(rules, tmp_path / "rates.png").stat().st_size > 10_000


def test_runs_that_differ_in_more_are_refused() -> None:
    rungs = [rung(64, 1e-3, 4.0, "megatron"), rung(64, 2e-3, 4.0, "megatron", depth=6)]
    with pytest.raises(UserError, match=r"model\.num_layers"):
        transfer_rules(rungs)
