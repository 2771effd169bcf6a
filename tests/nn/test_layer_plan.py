from __future__ import annotations

from flexbert.nn.block import PreNormConfig
from flexbert.nn.layer_plan import LayerPlan, layer_plan
from flexbert.nn.norm import LayerNormConfig
from tests.nn.cases import attention_config, small_model


def test_every_third_layer_is_global_and_has_the_global_theta() -> None:
    plan = layer_plan(small_model(num_layers=5))
    assert plan[:3] == (
        LayerPlan(0, "global", None, 160_000.0, True),
        LayerPlan(1, "local", 8, 10_000.0, False),
        LayerPlan(2, "local", 8, 10_000.0, False),
    )
    assert [layer.attention for layer in plan[3:]] == ["global", "local"]


def test_without_window_all_layers_are_global() -> None:
    plan = layer_plan(small_model(attention=attention_config(window=None, global_every=1)))
    assert {(layer.attention, layer.window) for layer in plan} == {("global", None)}


def test_without_rope_no_layer_has_a_theta() -> None:
    plan = layer_plan(small_model(attention=attention_config(rope=None)))
    assert {layer.theta for layer in plan} == {None}


def test_the_first_norm_stays_unless_the_block_skips_it() -> None:
    block = PreNormConfig(norm=LayerNormConfig(), skip_first_norm=False)
    assert not any(layer.skip_attention_norm for layer in layer_plan(small_model(block=block)))
