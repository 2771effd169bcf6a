"""ModernBERT is Hugging Face's, on padded, packed and packed batches, in logits and gradients."""

from __future__ import annotations

import pytest
import torch

from flexbert.config.model import ModelConfig
from flexbert.nn.block import PreNormConfig
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.rope import RopeConfig
from tests.huggingface.cases import MODELS as ALL
from tests.huggingface.parity import check_logits_and_gradients
from tests.nn.cases import attention_config, global_every, small_model

WITH_BIAS = LayerNormConfig(eps=1e-6, bias=True)
MODELS = {
    "odd depth": small_model(num_layers=5),
    "one layer": small_model(num_layers=1),
    "one head, narrow window": small_model(
        attention=attention_config(num_heads=1, windows=global_every(3, 2))
    ),
    "every second global": small_model(
        attention=attention_config(num_heads=8, windows=global_every(2, 8))
    ),
    "wide window": small_model(
        attention=attention_config(windows=global_every(4, 64)), num_layers=7
    ),
    "all global": small_model(
        attention=attention_config(windows="global", rope=RopeConfig(theta={"global": 500.0}))
    ),
    "biases, silu": small_model(
        attention=attention_config(bias=True),
        mlp=GLUConfig(intermediate_size=40, activation="silu", bias=True),
        head=MLMHeadConfig(norm=LayerNormConfig(), bias=True, activation="gelu_tanh"),
    ),
    "norms with bias, head without": small_model(
        embedding=TokenEmbeddingConfig(norm=WITH_BIAS),
        block=PreNormConfig(norm=WITH_BIAS, skip_first_norm=True),
        mlp=GLUConfig(intermediate_size=20, activation="relu_squared"),
        final_norm=WITH_BIAS,
        head=MLMHeadConfig(norm=WITH_BIAS, activation="gelu_quick", decoder_bias=False),
    ),
    "untied": small_model(head=MLMHeadConfig(norm=LayerNormConfig(), tied=False)),
    **{name: model for name, model in ALL.items() if name.startswith("modernbert ")},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_logits_and_gradients_equal_transformers(model: ModelConfig, dtype: torch.dtype) -> None:
    check_logits_and_gradients(model, dtype)
