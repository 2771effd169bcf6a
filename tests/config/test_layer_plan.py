from __future__ import annotations

import pytest

from flexbert.config.layer_plan import layer_plan
from flexbert.config.layer_range import LayerRange
from flexbert.config.model import LayerConfig
from flexbert.errors import ConfigError
from flexbert.nn.block import PostNormConfig, PreNormConfig
from flexbert.nn.build import build_model
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.mlp import GLU, GLUConfig, PlainMLP, PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.positions import SinusoidalPositionsConfig
from flexbert.nn.rope import RopeConfig
from tests.nn.cases import attention_config, global_every, packed_batch, small_model

NORM = LayerNormConfig()


def test_every_third_layer_is_global_and_has_the_global_theta() -> None:
    plan = layer_plan(small_model(num_layers=5))
    assert [
        (layer.index, layer.attention, layer.window, layer.theta, layer.skip_attention_norm)
        for layer in plan[:3]
    ] == [
        (0, "global", None, 160_000.0, True),
        (1, "local", 8, 10_000.0, False),
        (2, "local", 8, 10_000.0, False),
    ]
    assert [layer.attention for layer in plan[3:]] == ["global", "local"]


def test_without_window_all_layers_are_global() -> None:
    rope = RopeConfig(theta={"global": 500.0, "local": None})
    plan = layer_plan(small_model(attention=attention_config(windows="global", rope=rope)))
    assert {(layer.attention, layer.window, layer.theta) for layer in plan} == {
        ("global", None, 500.0)
    }


def test_without_rope_no_layer_has_a_theta() -> None:
    embedding = TokenEmbeddingConfig(positions=SinusoidalPositionsConfig())
    plan = layer_plan(small_model(attention=attention_config(rope=None), embedding=embedding))
    assert {layer.theta for layer in plan} == {None}


def test_the_first_norm_stays_unless_the_block_skips_it() -> None:
    block = PreNormConfig(norm=NORM, skip_first_norm=False)
    assert not any(layer.skip_attention_norm for layer in layer_plan(small_model(block=block)))


@pytest.mark.parametrize(
    ("text", "indices"),
    [("0", [0]), ("0-2", [0, 1, 2]), ("-1", [6]), ("0,3-5", [0, 3, 4, 5]), ("-3--1", [4, 5, 6])],
)
def test_layers_are_named_by_number_and_range(text: str, indices: list[int]) -> None:
    assert LayerRange.parse(text).indices(7) == indices


@pytest.mark.parametrize(
    ("text", "words"),
    [("7", "no layer 7"), ("-8", "no layer -8"), ("3-1", "backwards"), ("first", "expected")],
)
def test_layers_that_are_not_there_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LayerRange.parse(text).indices(7)


def test_some_layers_can_be_of_other_parts() -> None:
    model = small_model(
        layers={
            "0-1": LayerConfig(mlp=PlainMLPConfig(intermediate_size=24)),
            "-1": LayerConfig(
                attention=attention_config(
                    num_heads=2,
                    windows=global_every(3, 4),
                    rope=RopeConfig(theta={"global": 7.0, "local": 9.0}),
                )
            ),
        }
    )
    built = build_model(model)
    assert [type(layer.mlp) for layer in built.encoder.layers] == [PlainMLP, PlainMLP, GLU, GLU]
    assert [layer.attention.heads[0] for layer in built.encoder.layers] == [4, 4, 4, 2]
    assert [layer.theta for layer in layer_plan(model)] == [160_000.0, 10_000.0, 10_000.0, 7.0]
    assert built(packed_batch((5, 20))).shape == (25, 100)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"4": LayerConfig(mlp=GLUConfig(intermediate_size=4))}, "layers.4: there is no layer 4"),
        ({"x": LayerConfig(mlp=GLUConfig(intermediate_size=4))}, "layers.x: expected layers as"),
        ({"0": LayerConfig()}, "layers.0: changes nothing"),
        (
            {
                "0-2": LayerConfig(mlp=GLUConfig(intermediate_size=4)),
                "2-3": LayerConfig(mlp=GLUConfig(intermediate_size=8)),
            },
            "layers.2-3.mlp: layer 2 has one from '0-2' too",
        ),
        (
            {"1": LayerConfig(attention=attention_config(num_heads=5))},
            "layers.1.attention.num_heads: must divide hidden_size 32",
        ),
        ({"3": LayerConfig(block=PostNormConfig(norm=NORM))}, "final_norm: post_norm already"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(
    layers: dict[str, LayerConfig], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small_model(layers=layers)
