"""Schedules against their closed forms."""

from __future__ import annotations

import itertools
import math

import pytest

from flexbert.config.clock import StageClock, crossed
from flexbert.config.duration import Duration
from flexbert.config.training import ScheduleConfig
from flexbert.errors import ConfigError
from flexbert.schedule.schedules import Constant, Cosine, InverseSqrt, Trapezoidal

TOTAL, WARMUP, DECAY, FINAL = 1000, 100, 300, 0.001


def at(tokens: int, *, updates: int = 0, duration: str = f"{TOTAL}tok") -> StageClock:
    return StageClock(tokens=tokens, updates=updates, duration=Duration.parse(duration))


def trapezoid(**changes: object) -> Trapezoidal:
    values: dict[str, object] = {
        "warmup": Duration(WARMUP, "tok"),
        "decay": Duration(DECAY, "tok"),
        "final_fraction": FINAL,
    }
    return Trapezoidal(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 50, 99, 100, 101, 500, 699, 700, 701, 850, 999, 1000, 1500])
def test_trapezoid_with_one_minus_sqrt_equals_its_formula(n: int) -> None:
    if n < WARMUP:
        expected = n / WARMUP
    elif n < TOTAL - DECAY:
        expected = 1.0
    elif n <= TOTAL:
        expected = FINAL + (1 - FINAL) * (1 - math.sqrt((n - (TOTAL - DECAY)) / DECAY))
    else:
        expected = FINAL
    assert trapezoid().multiplier(at(n)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("shape", "halfway"),
    [("linear", 0.5), ("cosine", 0.5), ("one_minus_sqrt", 1 - math.sqrt(0.5))],
)
def test_every_decay_runs_from_one_to_the_final_fraction(shape: str, halfway: float) -> None:
    schedule = trapezoid(decay_shape=shape, final_fraction=0.0)
    assert schedule.multiplier(at(TOTAL - DECAY)) == 1
    assert schedule.multiplier(at(TOTAL - DECAY // 2)) == pytest.approx(halfway)
    assert schedule.multiplier(at(TOTAL)) == pytest.approx(0, abs=1e-15)


def test_it_is_continuous_and_never_below_the_final_fraction() -> None:
    values = [trapezoid().multiplier(at(n)) for n in range(WARMUP, 2 * TOTAL)]
    assert min(values) >= FINAL
    # 1 - sqrt is steepest at its start: sqrt(1 / DECAY) in the first token.
    steps = [abs(a - b) for a, b in itertools.pairwise(values)]
    assert max(steps) <= math.sqrt(1 / DECAY) + 1e-12


def test_without_warmup_and_decay_it_is_one_from_the_first_update_to_the_last() -> None:
    schedule = Trapezoidal()
    assert {schedule.multiplier(at(n)) for n in (0, 1, TOTAL - 1, TOTAL)} == {1.0}


def test_warmup_and_decay_may_be_fractions_of_the_stage() -> None:
    by_tokens = trapezoid()
    by_fraction = trapezoid(warmup=Duration(0.1, "dur"), decay=Duration(0.3, "dur"))
    for n in range(0, TOTAL + 1, 7):
        assert by_fraction.multiplier(at(n)) == pytest.approx(by_tokens.multiplier(at(n)))


def test_warmup_in_batches_goes_with_a_stage_in_tokens() -> None:
    schedule = Trapezoidal(warmup=Duration(10, "ba"))
    schedule.check(Duration(TOTAL, "tok"))
    assert schedule.multiplier(at(900, updates=5)) == 0.5


def test_a_stage_in_batches_counts_batches() -> None:
    schedule = Trapezoidal(decay=Duration(0.5, "dur"), decay_shape="linear")
    assert schedule.multiplier(at(123456, updates=15, duration="20ba")) == 0.5


@pytest.mark.parametrize(
    ("schedule", "duration", "path"),
    [
        (Trapezoidal(decay=Duration(5, "ba")), "1000tok", "decay"),
        (trapezoid(warmup=Duration(800, "tok")), "1000tok", "warmup"),
        (Trapezoidal(warmup=Duration(30, "ba")), "20ba", "warmup"),
        (Trapezoidal(final_fraction=0.1), "1000tok", "final_fraction"),
        (Cosine(warmup=Duration(5, "ba")), "1000tok", "warmup"),
        (Cosine(warmup=Duration(1000, "tok")), "1000tok", "warmup"),
        (InverseSqrt(), "1000tok", "timescale"),
        (InverseSqrt(warmup=Duration(5, "ba")), "1000tok", "warmup"),
        (InverseSqrt(timescale=Duration(5, "ba")), "1000tok", "timescale"),
        (
            InverseSqrt(warmup=Duration(10, "tok"), decay=Duration(100, "tok"), final_fraction=0.5),
            "1000tok",
            "final_fraction",
        ),
    ],
)
def test_a_combination_without_meaning_is_refused(
    schedule: ScheduleConfig, duration: str, path: str
) -> None:
    with pytest.raises(ConfigError) as error:
        schedule.check(Duration.parse(duration))
    assert error.value.path == path


@pytest.mark.parametrize("n", [0, 50, 99, 100, 101, 550, 999, 1000, 1001, 5000])
def test_cosine_equals_its_formula(n: int) -> None:
    schedule = Cosine(warmup=Duration(WARMUP, "tok"), final_fraction=0.1)
    schedule.check(Duration(TOTAL, "tok"))
    share = min((n - WARMUP) / (TOTAL - WARMUP), 1)
    expected = n / WARMUP if n < WARMUP else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share))
    assert schedule.multiplier(at(n)) == pytest.approx(expected, abs=1e-15)


def test_cosine_without_warmup_begins_at_one() -> None:
    assert Cosine().multiplier(at(0)) == 1
    assert Cosine().multiplier(at(TOTAL)) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("timescale", [None, 50, 700])
@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 400, 699, 700, 701, 850, 1000, 1500])
def test_inverse_sqrt_equals_its_formula(n: int, timescale: int | None) -> None:
    schedule = InverseSqrt(
        warmup=Duration(WARMUP, "tok"),
        timescale=None if timescale is None else Duration(timescale, "tok"),
        decay=Duration(DECAY, "tok"),
        decay_shape="linear",
        final_fraction=FINAL,
    )
    schedule.check(Duration(TOTAL, "tok"))
    scale = timescale or WARMUP
    cooldown = TOTAL - DECAY
    course = math.sqrt(scale / (scale + max(min(n, cooldown) - WARMUP, 0)))
    expected = n / WARMUP if n < WARMUP else course
    if n > cooldown:
        share = min((n - cooldown) / DECAY, 1)
        expected = FINAL + (expected - FINAL) * (1 - share)
    assert schedule.multiplier(at(n)) == pytest.approx(expected, abs=1e-15)


def test_inverse_sqrt_of_the_warmup_is_that_of_the_transformer() -> None:
    schedule = InverseSqrt(warmup=Duration(WARMUP, "tok"))
    for n in range(WARMUP, TOTAL, 37):
        assert schedule.multiplier(at(n)) == pytest.approx(math.sqrt(WARMUP / n))


def test_constant_is_one() -> None:
    assert Constant().multiplier(at(123)) == 1


def test_crossed_marks_each_interval_once_whatever_the_step() -> None:
    interval = Duration(100, "tok")
    marks = [
        tokens for tokens in range(0, 1000, 30) if crossed(interval, at(tokens), at(tokens + 30))
    ]
    assert len(marks) == 10
    assert [(tokens + 30) // 100 for tokens in marks] == list(range(1, 11))


def test_crossed_counts_fractions_of_the_stage() -> None:
    interval = Duration(0.25, "dur")
    assert crossed(interval, at(249), at(250))
    assert not crossed(interval, at(250), at(499))
