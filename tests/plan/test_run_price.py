"""Runs that are priced together cost what each one's plan says."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexbert.errors import ConfigError
from flexbert.plan import packing_efficiency, run_price
from flexbert.plan.make_plan import make_plan
from flexbert.plan.run_price import RunPricing
from flexbert.plan.stage_cost import Hardware
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE, Overrides

STAGES = "stages={a: {duration: 6ba}, b: {duration: 4ba, data.max_length: 128, optimizer.lr: 1e-4}}"
VARIED = [
    [],
    ["seed=3", "data.mask_rate=0.15"],
    ["model.mlp.activation=silu", "checkpoints.keep=2"],
    ["model.num_layers=2", "duration=3000tok", "schedule={name: constant}"],
    [STAGES, "schedule={name: constant}"],
]


def test_a_run_costs_what_its_own_plan_says(tiny: Overrides) -> None:
    hardware = Hardware(device="A100", mfu=0.3)
    pricing = RunPricing(hardware)
    for varied in VARIED:
        loaded = load_recipe(TINY_RECIPE, tiny(*varied))
        plan, price = make_plan(loaded, 1, hardware), pricing.price(loaded)
        assert (price.tokens, price.updates) == (plan.tokens, plan.steps)
        assert price.parameters == plan.parameters.total
        assert price.gpu_hours == pytest.approx(plan.gpu_hours, rel=1e-12)
        assert price.checkpoint_bytes == plan.checkpoints.total_bytes
        assert price.flops == pytest.approx(
            sum(stage.length.tokens * stage.cost.flops for stage in plan.stages), rel=1e-12
        )
        assert price.steps_are == "exact"


def test_rows_are_packed_and_models_built_once_for_all_that_share_them(
    tiny: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"packed": 0, "built": 0, "opened": 0}

    def counted(name: str, function: object) -> object:
        def call(*given: object, **named: object) -> object:
            counts[name] += 1
            return function(*given, **named)  # type: ignore[operator]

        return call

    monkeypatch.setattr(run_price, "pack_stage", counted("packed", packing_efficiency.pack_stage))
    monkeypatch.setattr(run_price, "meta_masked_lm", counted("built", run_price.meta_masked_lm))
    monkeypatch.setattr(run_price, "open_corpora", counted("opened", run_price.open_corpora))
    pricing = RunPricing(Hardware())
    for activation in ("gelu", "silu"):
        for lr in (1e-3, 2e-3, 4e-3):
            for seed in (1, 2):
                given = (f"model.mlp.activation={activation}", f"optimizer.lr={lr}", f"seed={seed}")
                pricing.price(load_recipe(TINY_RECIPE, tiny(*given)))
    assert counts == {"packed": 2, "built": 2, "opened": 1}


def test_a_corpus_that_one_run_opened_is_held_against_the_next(tiny: Overrides) -> None:
    pricing = RunPricing(Hardware())
    pricing.price(load_recipe(TINY_RECIPE, tiny()))
    with pytest.raises(ConfigError, match=r"model\.vocab_size: 256 is too small"):
        pricing.price(load_recipe(TINY_RECIPE, tiny("model.vocab_size=256")))


def test_without_corpora_a_price_needs_none(tmp_path: Path) -> None:
    loaded = load_recipe(TINY_RECIPE, [f"data.path={tmp_path / 'none'}"])
    price = RunPricing(Hardware(), with_corpora=False).price(loaded)
    assert (price.updates, price.tokens) == (12, 12 * 3 * 128)
    assert price.steps_are.startswith("nominal")
