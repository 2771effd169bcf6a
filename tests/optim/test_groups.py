"""Which parameters are updated how, on a small masked LM."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import nn

from flexbert.config.optimizer import AdamFamilyConfig, GroupConfig, Multipliers
from flexbert.errors import ConfigError
from flexbert.nn.build import build_model
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.optim.decoupled_adamw import DecoupledAdamW
from flexbert.optim.groups import parameter_groups
from flexbert.optim.muon import Muon
from tests.nn.cases import attention_config, small_model
from tests.optim.cases import CONFIGS

LAYER_MATRICES = {
    f"encoder.layers.{layer}.{matrix}.weight"
    for layer in (0, 1)
    for matrix in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
}
HIDDEN_MATRICES = LAYER_MATRICES | {"encoder.embedding.projection.weight", "head.dense.weight"}
MATRICES = HIDDEN_MATRICES | {"encoder.embedding.tokens.weight", "head.decoder.weight"}

each_optimizer = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture
def model() -> nn.Module:
    """Biases nearly everywhere, and matrices outside of layers too."""
    norm = LayerNormConfig(bias=True)
    config = small_model(
        num_layers=2,
        embedding=TokenEmbeddingConfig(norm=norm, size=16),
        attention=attention_config(bias=True),
        head=MLMHeadConfig(norm=norm, tied=False),
    )
    return build_model(config, device="meta")


def with_groups(config: AdamFamilyConfig, *groups: GroupConfig) -> AdamFamilyConfig:
    return dataclasses.replace(config, groups=groups)


def held(model: nn.Module, config: AdamFamilyConfig, key: str) -> dict[str, Any]:
    """What each parameter's group in the built optimizer holds, by the parameter's name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = config.build(model).param_groups
    values = [(names[id(p)], group[key]) for group in groups for p in group["params"]]
    assert sorted(name for name, _ in values) == sorted(names.values())
    return dict(values)


def held_decay(model: nn.Module, config: AdamFamilyConfig) -> dict[str, float]:
    """The weight decay that each parameter's group stands for."""
    decay = held(model, config, "weight_decay")
    if not isinstance(config, DecoupledAdamW):
        return decay
    # What torch's AdamW multiplies by lr was divided by the lr at the schedule's height.
    multiplier = held(model, config, "lr_multiplier")
    return {name: decay[name] * config.lr * (multiplier[name] or 1) for name in decay}


@each_optimizer
def test_matrices_are_decayed_and_norms_and_biases_are_not(
    model: nn.Module, config: AdamFamilyConfig
) -> None:
    for name, decay in held_decay(model, config).items():
        expected = config.weight_decay if name in MATRICES else 0
        assert decay == pytest.approx(expected), name


@each_optimizer
def test_the_first_pattern_that_matches_counts(model: nn.Module, config: AdamFamilyConfig) -> None:
    config = with_groups(
        config,
        GroupConfig(parameters="*.norm.bias", lr_multiplier=0.5, weight_decay_multiplier=1.0),
        GroupConfig(parameters="encoder.embedding.*", lr_multiplier=2.0),
        GroupConfig(parameters="*.bias", lr_multiplier=3.0),
    )
    lr, decay = held(model, config, "lr"), held_decay(model, config)
    base = held(model, dataclasses.replace(config, groups=()), "lr")
    for name, multiplier, decay_multiplier in (
        ("encoder.embedding.norm.bias", 0.5, 1),
        ("head.norm.bias", 0.5, 1),
        ("encoder.embedding.norm.weight", 2, 0),
        ("encoder.embedding.tokens.weight", 2, 1),
        ("encoder.embedding.projection.bias", 2, 0),
        ("head.decoder.bias", 3, 0),
        ("head.decoder.weight", 1, 1),
        ("encoder.layers.1.mlp.up.weight", 1, 1),
    ):
        assert lr[name] == base[name] * multiplier, name
        assert decay[name] == pytest.approx(config.weight_decay * decay_multiplier), name


@each_optimizer
def test_schedules_scale_lr_and_weight_decay_and_nothing_else(
    model: nn.Module, config: AdamFamilyConfig
) -> None:
    for group in parameter_groups(model, config):
        full = config.hyperparameters(group, Multipliers(lr=1.0))
        scaled = config.hyperparameters(group, Multipliers(lr=0.5, weight_decay=0.25))
        assert scaled == full | {
            "lr": full["lr"] * 0.5,
            "weight_decay": full["weight_decay"] * 0.25,
        }


def test_decoupled_decay_is_relative_to_the_groups_own_lr(model: nn.Module) -> None:
    pattern = "encoder.embedding.tokens.*"
    half = GroupConfig(parameters=pattern, lr_multiplier=0.5)
    none = GroupConfig(parameters=pattern, lr_multiplier=0.0)
    token_matrix = "encoder.embedding.tokens.weight"
    config = CONFIGS["stable_adamw"]
    assert held(model, with_groups(config, half), "max_lr")[token_matrix] == config.lr / 2
    # It is divided by.
    assert held(model, with_groups(config, none), "max_lr")[token_matrix] == config.lr
    config = CONFIGS["decoupled_adamw"]
    for group, base in ((half, config.lr / 2), (none, config.lr)):
        decay = held(model, with_groups(config, group), "weight_decay")[token_matrix]
        assert decay == pytest.approx(config.weight_decay / base)


def test_muon_updates_linear_layers_matrices_and_adamw_the_rest(model: nn.Module) -> None:
    algorithms = held(model, CONFIGS["muon"], "algorithm")
    assert {name for name, a in algorithms.items() if a == "muon"} == HIDDEN_MATRICES
    assert set(algorithms.values()) == {"muon", "adamw"}


def test_muons_adamw_has_its_own_lr_only_where_one_is_given(model: nn.Module) -> None:
    config = CONFIGS["muon"]
    assert isinstance(config, Muon)
    for adamw_lr, expected in ((3e-3, 3e-3), (None, config.lr)):
        lr = held(model, dataclasses.replace(config, adamw_lr=adamw_lr), "lr")
        assert {lr[name] for name in lr.keys() - HIDDEN_MATRICES} == {expected}
        assert {lr[name] for name in HIDDEN_MATRICES} == {config.lr}


def test_muon_leaves_a_tied_decoders_matrix_to_adamw() -> None:
    algorithms = held(build_model(small_model(), device="meta"), CONFIGS["muon"], "algorithm")
    assert algorithms["encoder.embedding.tokens.weight"] == "adamw"
    assert not any("decoder.weight" in name for name in algorithms)


@each_optimizer
def test_parameters_that_need_no_gradient_are_left_out(
    model: nn.Module, config: AdamFamilyConfig
) -> None:
    model.get_submodule("encoder.embedding").requires_grad_(False)
    trained = {id(p) for group in parameter_groups(model, config) for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("patterns", "index", "words"),
    [
        (["encoder.embeding.*"], 0, ["no parameter", "'encoder.embedding."]),
        (["*.bias", "head.decoder.wait"], 1, ["no parameter", "'head.decoder.weight'"]),
        (["Head.*"], 0, ["no parameter", "'head."]),
        (["head.*", "head.decoder.*"], 1, ["only parameters", "earlier"]),
        (["*.bias", "*.bias"], 1, ["only parameters", "earlier"]),
    ],
)
@each_optimizer
def test_a_pattern_without_effect_is_refused(
    model: nn.Module, config: AdamFamilyConfig, patterns: list[str], index: int, words: list[str]
) -> None:
    groups = [GroupConfig(parameters=pattern, lr_multiplier=0.5) for pattern in patterns]
    config = with_groups(config, *groups)
    with pytest.raises(ConfigError) as error:
        config.build(model)
    assert error.value.path == f"groups.{index}.parameters"
    assert all(word in error.value.problem for word in [repr(patterns[index]), *words])
