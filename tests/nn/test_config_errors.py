"""A mistake in a recipe is named before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flexbert.errors import ConfigError
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import MegatronInitConfig
from flexbert.nn.masked_lm import build_model
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.rope import RopeConfig
from tests.nn.cases import attention_config, small_model

NORM = LayerNormConfig()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attention_config(window=7), "window: must be positive and even, got 7"),
        (lambda: attention_config(window=0), "window: must be positive and even, got 0"),
        (lambda: attention_config(window=None), "window: local layers .* need one"),
        (lambda: attention_config(global_every=1), "window: has no use"),
        (lambda: attention_config(global_every=0), "global_every: must be positive, got 0"),
        (lambda: attention_config(num_heads=0), "num_heads: must be positive, got 0"),
        (lambda: attention_config(output_dropout=1.0), "output_dropout: must be at least 0"),
        (lambda: attention_config(backend="spda"), "backend: .* did you mean 'sdpa'"),
        (lambda: GLUConfig(intermediate_size=0), "intermediate_size: must be positive"),
        (lambda: GLUConfig(intermediate_size=8, activation="glu"), "activation: .*'gelu'"),
        (lambda: MLMHeadConfig(norm=NORM, activation="selu"), "activation: no activation 'selu'"),
        (lambda: LayerNormConfig(eps=0.0), "eps: must be positive"),
        (lambda: TokenEmbeddingConfig(dropout=-0.1), "dropout: must be at least 0"),
        (lambda: RopeConfig(theta={"global": 1e4}), "theta: needs the keys global and local"),
        (lambda: RopeConfig(theta={"global": 1e4, "local": 0.0}), "theta.local: must be positive"),
        (lambda: MegatronInitConfig(std=0.0), "std: must be positive"),
        (lambda: small_model(hidden_size=30), "attention.num_heads: must divide"),
        (lambda: build_model(small_model(hidden_size=20)), "rope needs an even head size, got 5"),
    ],
)
def test_a_wrong_value_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
