from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from flexbert.config.model import InitConfig, ModelConfig
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.build import build_model, new_model
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import (
    FanInConfig,
    KaimingConfig,
    MegatronInitConfig,
    MitchellConfig,
    NormalConfig,
    TruncatedNormalConfig,
)
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig, SinusoidalPositionsConfig
from flexbert.nn.rope import RopeConfig
from tests.nn.cases import small_model

NORM = LayerNormConfig(bias=True)


def model_with(init: InitConfig, **changes: Any) -> ModelConfig:
    """Every matrix so large that its spread is known to better than 1 percent."""
    fields: dict[str, Any] = {
        "hidden_size": 128,
        "vocab_size": 512,
        "num_layers": 8,
        "attention": MultiHeadConfig(
            num_heads=4, bias=True, rope=RopeConfig(theta={"global": 10_000.0})
        ),
        "embedding": TokenEmbeddingConfig(
            norm=RMSNormConfig(bias=True), positions=LearnedPositionsConfig(length=128)
        ),
        "mlp": GLUConfig(intermediate_size=192, bias=True),
        "head": MLMHeadConfig(norm=NORM, bias=True, tied=False),
    }
    return small_model(init=init, **fields | changes)


MODEL = model_with(MegatronInitConfig(std=0.02, cutoff=2.0))
# The spread of a standard normal cut off at c is sqrt(1 - 2 c pdf(c) / (2 cdf(c) - 1)).
CUT_AT_2, CUT_AT_3 = 0.8796, 0.9866
SPREADS = {
    # scheme, what its cutting off leaves of a spread, and the spread before that of: embeddings,
    # layer 3's input projections, its attention's and its MLP's output, the decoder
    "normal": (NormalConfig(std=0.03), 1, None, (0.03, 0.03, 0.03, 0.03, 0.03)),
    "truncated": (TruncatedNormalConfig(), CUT_AT_2, 2, (0.02, 0.02, 0.02, 0.02, 0.02)),
    "megatron": (
        MegatronInitConfig(std=0.02),
        CUT_AT_2,
        2,
        (0.02, 0.02, 0.005, 0.005, 128**-0.5),
    ),
    "fan_in": (
        FanInConfig(),
        1,
        None,
        (128**-0.5, 128**-0.5, 128**-0.5, 192**-0.5, 128**-0.5),
    ),
    "kaiming": (
        KaimingConfig(),
        1,
        None,
        (0.125, 0.125, 0.125, math.sqrt(2 / 192), 0.125),
    ),
    "mitchell": (
        MitchellConfig(),
        CUT_AT_3,
        3,
        (128**-0.5, 128**-0.5, 1 / 32, (2 * 192 * 4) ** -0.5, 128**-0.5),
    ),
}
MATRICES = (
    ("encoder.embedding.tokens", "encoder.embedding.positions.table"),
    ("encoder.layers.3.attention.qkv", "encoder.layers.3.mlp.up", "head.dense"),
    ("encoder.layers.3.attention.out",),
    ("encoder.layers.3.mlp.down",),
    ("head.decoder",),
)


@pytest.mark.parametrize(
    ("init", "shrunk", "limit", "spreads"), SPREADS.values(), ids=SPREADS.keys()
)
def test_matrices_have_the_spread_of_their_scheme(
    init: InitConfig, shrunk: float, limit: float | None, spreads: tuple[float, ...]
) -> None:
    model = build_model(model_with(init))
    for names, std in zip(MATRICES, spreads, strict=True):
        for name in names:
            weight = model.get_parameter(f"{name}.weight")
            assert weight.std().item() == pytest.approx(shrunk * std, rel=0.03), name
            assert weight.mean().abs() < 0.05 * std, name
            if limit is None:
                assert weight.abs().max() > 3.2 * std, name
            else:
                assert 0.95 * limit * std < weight.abs().max() <= limit * std * (1 + 1e-6), name


def test_small_embeddings_are_uniform_and_all_else_is_as_it_was() -> None:
    weight = build_model(model_with(NormalConfig(small_embedding=True))).encoder.token_matrix
    assert weight.abs().max() <= 1e-4
    assert weight.std().item() == pytest.approx(1e-4 / math.sqrt(3), rel=0.02)
    other = build_model(model_with(NormalConfig(small_embedding=True)))
    assert other.head.dense.weight.std().item() == pytest.approx(0.02, rel=0.03)


def test_norms_start_at_one_and_biases_at_zero() -> None:
    for name, parameter in build_model(MODEL).named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name


@pytest.mark.parametrize("init", [row[0] for row in SPREADS.values()], ids=SPREADS.keys())
def test_every_parameter_is_initialised(init: InitConfig) -> None:
    config = model_with(init)
    model = new_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    init.apply(model, config)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_parameter_of_its_own_is_filled_by_its_module() -> None:
    positions = SinusoidalPositionsConfig(learned_scale=True)
    model = build_model(small_model(embedding=TokenEmbeddingConfig(positions=positions)))
    assert model.encoder.embedding.positions.scale.item() == pytest.approx(32**-0.5)


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"no rule for weight, bias of Conv1d.*init_parameters"):
        MODEL.init.apply(nn.Sequential(nn.Conv1d(2, 2, 1)), MODEL)


def test_the_seed_decides_the_weights() -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(build_model(MODEL).encoder.token_matrix)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_meta_device_allocates_nothing() -> None:
    assert all(p.is_meta for p in build_model(MODEL, device="meta").parameters())
