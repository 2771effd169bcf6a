from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import MegatronInitConfig
from flexbert.nn.masked_lm import MaskedLM, build_model
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.norm import LayerNormConfig
from tests.nn.cases import small_model

NORM = LayerNormConfig(bias=True)
MODEL = small_model(
    hidden_size=128,
    vocab_size=512,
    num_layers=8,
    attention=MultiHeadConfig(num_heads=4, bias=True),
    mlp=GLUConfig(intermediate_size=192, bias=True),
    head=MLMHeadConfig(norm=NORM, bias=True, tied=False),
    init=MegatronInitConfig(std=0.02, cutoff=2.0),
)
# Of a standard normal cut off at 2: sqrt(1 - 4 pdf(2) / (2 cdf(2) - 1)).
CUT_OFF_STD = 0.8796


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("encoder.embedding.tokens", 0.02),
        ("encoder.layers.3.attention.qkv", 0.02),
        ("encoder.layers.3.attention.out", 0.02 / math.sqrt(16)),
        ("encoder.layers.3.mlp.up", 0.02),
        ("encoder.layers.3.mlp.down", 0.02 / math.sqrt(16)),
        ("head.dense", 0.02),
        ("head.decoder", 128**-0.5),
    ],
)
def test_matrices_have_their_spread_and_are_cut_off(name: str, std: float) -> None:
    weight = build_model(MODEL).get_parameter(f"{name}.weight")
    # 16,384 values or more: their spread is known to better than 1 percent.
    assert weight.std().item() == pytest.approx(CUT_OFF_STD * std, rel=0.03)
    assert weight.mean().abs() < 0.05 * std
    assert 1.9 * std < weight.abs().max() <= 2 * std * (1 + 1e-6)


def test_norms_start_at_one_and_biases_at_zero() -> None:
    for name, parameter in build_model(MODEL).named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name


def test_every_parameter_is_initialised() -> None:
    model = MaskedLM(MODEL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    MODEL.init.apply(model, MODEL)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(TypeError, match="no rule for weight of Conv1d"):
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
