"""The ladders that are shipped: each rung follows the rules that its file states."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flexbert.config.recipe import Recipe
from flexbert.forecast.laws import PARAMETERS_AND_TOKENS, Scale, identified_law
from flexbert.forecast.rungs import scale_of
from flexbert.nn.init import MegatronInitConfig
from flexbert.optim.stable_adamw import StableAdamW
from flexbert.recipes import load_recipe
from flexbert.sweeps.runs import resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "yamls" / "ladders"


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> list[Recipe]:
    folder = tmp_path_factory.mktemp("ladder")
    return [run.recipe.first for run in resolve_runs(read_sweep(FOLDER / "ladder.yaml"), folder)]


@pytest.fixture(scope="module")
def target() -> Recipe:
    return load_recipe(FOLDER / "target.yaml", []).first


def scale(recipe: Recipe) -> Scale:
    tokens = recipe.duration.value
    return scale_of({"pretrain": recipe}, {"pretrain": int(tokens)})


def test_every_rung_and_the_target_follow_one_rule(rungs: list[Recipe], target: Recipe) -> None:
    for recipe in (*rungs, target):
        model, optimizer = recipe.model, recipe.optimizer
        width = model.hidden_size
        assert isinstance(model.init, MegatronInitConfig)
        assert isinstance(optimizer, StableAdamW)
        assert model.init.std == pytest.approx(0.8 * width**-0.5, rel=1e-2)
        assert optimizer.lr == pytest.approx(2e-3 * 256 / width * math.sqrt(512 / 2048), rel=1e-3)
        assert model.mlp.intermediate_size == 1.5 * width
        assert model.attention.num_heads == width // 32


def test_the_target_is_eight_times_the_largest_rung_and_reads_nothing_twice(
    rungs: list[Recipe], target: Recipe
) -> None:
    largest = max(scale(rung).flops for rung in rungs)
    assert scale(target).flops / largest == pytest.approx(8, rel=0.02)
    # The quickstart's corpus has 3.5 million.
    assert max(recipe.duration.value for recipe in (*rungs, target)) < 3_500_000


def test_the_ladder_determines_the_law_of_parameters_and_tokens(rungs: list[Recipe]) -> None:
    assert identified_law([scale(rung) for rung in rungs])[0] is PARAMETERS_AND_TOKENS


def test_learning_rates_are_tried_with_and_without_the_recipes_init(tmp_path: Path) -> None:
    runs = resolve_runs(read_sweep(FOLDER / "learning-rate.yaml"), tmp_path)
    tried = {
        (recipe.model.init.name, recipe.model.hidden_size, recipe.optimizer.lr)
        for recipe in (run.recipe.first for run in runs)
        if isinstance(recipe.optimizer, StableAdamW)
    }
    assert len(tried) == len(runs) == 40
    # As its head says: of half the width twice the rates, without the recipe's init too.
    lowest = {"megatron": 5e-4 * 64, "fan_in": 1e-3 * 64}
    expected = [
        (init, width, pytest.approx(first / width * 2**step))
        for init, first in sorted(lowest.items())
        for width in (64, 128, 256, 512)
        for step in range(5)
    ]
    assert sorted(tried) == expected
    assert all(run.recipe.first.model.mlp.intermediate_size in (64, 128, 256, 512) for run in runs)
