"""The time left is what the rest takes, in runs that are simulated by the second."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from flexbert.components import register_all
from flexbert.config.duration import Duration
from flexbert.schedule.stages import Stage
from flexbert.train.console.stage_costs import chunk_lengths
from flexbert.train.console.time_left import Pace, TimeLeft, occasions
from tests.conftest import TINY_RECIPE

register_all()


def stage(name: str, *overrides: str) -> Stage:
    from flexbert.recipes import load_recipe

    return Stage(name=name, recipe=load_recipe(TINY_RECIPE, [*overrides, "data.path=x"]).first)


@dataclass
class Simulated:
    """A run whose seconds are known.

    Attributes:
        token: seconds of a token, by the stage's name.
        evaluation, checkpoint: seconds of each.
    """

    stages: list[Stage]
    token: dict[str, float]
    evaluation: float = 0.0
    checkpoint: float = 0.0

    def seconds(self, index: int, updates: int) -> float:
        """What is really left after so many updates of a stage."""
        total = 0.0
        for number, stage in enumerate(self.stages[index:], start=index):
            first = updates if number == index else 0
            for update in range(first, stage.nominal_updates):
                total += self.tokens(stage, update) * self.token[stage.name]
                total += self.evaluation * self.completes(stage, update, "evaluation")
                total += self.checkpoint * self.completes(stage, update, "checkpoints")
        return total

    def tokens(self, stage: Stage, update: int) -> int:
        return stage.batches.rows(update) * stage.recipe.data.row_length

    def completes(self, stage: Stage, update: int, what: str) -> bool:
        interval = getattr(stage.recipe, what).interval
        assert interval.unit == "ba"
        return (update + 1) % interval.value == 0 or update + 1 == stage.nominal_updates

    def estimate(self, index: int, updates: int, costs: dict[str, float]) -> float | None:
        left = TimeLeft(self.stages, index, costs)
        stage, tokens = self.stages[index], 0
        for update in range(updates):
            new = self.tokens(stage, update)
            tokens += new
            left.add_update(new, new, new * self.token[stage.name])
            if self.completes(stage, update, "evaluation"):
                left.add_evaluation(self.evaluation)
            if self.completes(stage, update, "checkpoints"):
                left.add_checkpoint(self.checkpoint)
        return left.seconds(stage.clock(tokens=tokens, updates=updates))


def test_one_stage_with_evaluations_and_checkpoints() -> None:
    run = Simulated([stage("one", "duration=1000ba")], {"one": 0.01}, evaluation=7, checkpoint=3)
    for updates in (10, 500, 990, 1000):
        expected = run.seconds(0, updates)
        assert run.estimate(0, updates, {"one": 1}) == pytest.approx(expected, abs=1e-6)


def test_a_batch_warmup_is_counted_by_tokens_and_not_by_updates() -> None:
    warmup = "batch.warmup={start: 2, duration: 10_000tok}"
    one = stage("one", "duration=600ba", warmup)
    assert one.batches.rows(0) < one.batches.rows(599)
    run = Simulated([one], {"one": 0.01})
    expected = run.seconds(0, 20)
    assert run.estimate(0, 20, {"one": 1}) == pytest.approx(expected, rel=1e-6)
    by_updates = 20 * run.tokens(one, 0) * 0.01 / 20 * 580
    assert by_updates < 0.5 * expected


def test_later_stages_count_by_what_their_tokens_cost() -> None:
    stages = [
        stage("short", "duration=40ba"),
        stage("long", "duration=100ba", "data.max_length=128"),
    ]
    run = Simulated(stages, {"short": 0.01, "long": 0.03}, evaluation=2)
    expected = run.seconds(0, 20)
    assert run.estimate(0, 20, {"short": 5.0, "long": 15.0}) == pytest.approx(expected, rel=1e-6)
    left = TimeLeft(stages, 1, {"long": 1.0})
    assert 0.1 < left.fraction(stages[1].clock(tokens=0, updates=0)) < 0.5
    whole = stages[1].nominal_tokens
    assert left.fraction(stages[1].clock(tokens=whole, updates=100)) == 1


def test_nothing_is_said_before_there_is_a_pace() -> None:
    run = Simulated([stage("one", "duration=100ba")], {"one": 0.01})
    assert run.estimate(0, 0, {"one": 1}) is None
    assert run.estimate(0, 1, {"one": 1}) is None
    assert run.estimate(0, 2, {"one": 1}) is not None


def test_padding_in_rows_shortens_a_stage_in_updates_and_none_in_tokens() -> None:
    in_updates = stage("one", "duration=100ba", "schedule={name: constant}")
    in_tokens = Stage(
        name="one", recipe=replace(in_updates.recipe, duration=Duration(38_400, "tok"))
    )
    for one, tokens in ((in_updates, 90 * 384 * 0.75), (in_tokens, 38_400 - 10 * 288)):
        left = TimeLeft([one], 0, {"one": 1})
        for _ in range(10):
            left.add_update(288, 384, 2.88)
        estimate = left.seconds(one.clock(tokens=2880, updates=10))
        assert estimate == pytest.approx(tokens * 0.01)


def test_a_hiccup_is_no_pace_and_a_change_of_pace_is() -> None:
    pace = Pace()
    for update in range(100):
        pace.add(1000, 300.0 if update == 50 else 2.0)
    assert pace.seconds_per_token == pytest.approx(0.002, rel=0.05)
    for _ in range(400):
        pace.add(1000, 4.0)
    assert pace.seconds_per_token == pytest.approx(0.004, rel=1e-6)


def test_updates_of_a_millisecond_are_taken_together() -> None:
    pace = Pace()
    random = np.random.default_rng(0)
    for _ in range(20_000):
        pace.add(100, random.exponential(1e-3))
    assert pace.seconds_per_token == pytest.approx(1e-5, rel=0.05)


def test_the_end_of_a_stage_is_an_occasion() -> None:
    one = stage("one", "duration=10ba")
    count = [
        occasions(Duration(4, "ba"), one.clock(tokens=0, updates=n), one) for n in (0, 3, 4, 9, 10)
    ]
    assert count == [3, 3, 2, 1, 0]
    assert occasions(Duration(0.5, "dur"), one.clock(tokens=0, updates=0), one) == 2


def test_chunks_of_documents_hold_all_their_tokens() -> None:
    lengths = chunk_lengths(np.array([5, 62, 63, 200]), 64)
    assert sorted(lengths.tolist()) == [3, 7, 16, 64, 64, 64, 64, 64]
    assert int((lengths - 2).sum()) == 5 + 62 + 63 + 200
