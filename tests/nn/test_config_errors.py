"""A mistake in a recipe is named before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flexbert.errors import ConfigError
from flexbert.nn.block import PostNormConfig
from flexbert.nn.classification import MultipleChoiceConfig, SequenceClassificationConfig
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import MegatronInitConfig
from flexbert.nn.loss import CrossEntropyConfig
from flexbert.nn.mlp import GLUConfig, PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig, SinusoidalPositionsConfig
from flexbert.nn.rope import RopeConfig
from flexbert.nn.rope_scaling import NTKScaling, YarnScaling
from tests.nn.cases import attention_config, small_model

NORM = LayerNormConfig()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attention_config(num_heads=0), "num_heads: must be positive, got 0"),
        (lambda: attention_config(head_dim=0), "head_dim: must be positive or null, got 0"),
        (lambda: attention_config(num_kv_heads=3), "num_kv_heads: must divide num_heads 4"),
        (lambda: attention_config(dropout=1.0), "dropout: must be at least 0"),
        (lambda: attention_config(output_dropout=1.0), "output_dropout: must be at least 0"),
        (lambda: attention_config(backend="spda"), "backend: .* did you mean 'sdpa'"),
        (lambda: attention_config(alibi=True), "alibi: stands for rope"),
        (lambda: GLUConfig(intermediate_size=0), "intermediate_size: must be positive"),
        (lambda: GLUConfig(intermediate_size=8, activation="glu"), "activation: .*'gelu'"),
        (lambda: PlainMLPConfig(intermediate_size=8, output_dropout=2), "output_dropout: must"),
        (lambda: MLMHeadConfig(norm=NORM, activation="swish"), "activation: no activation 'swish'"),
        (lambda: MLMHeadConfig(norm=NORM, dense=False, bias=True), "bias: .* dense is false"),
        (lambda: LayerNormConfig(eps=0.0), "eps: must be positive"),
        (lambda: RMSNormConfig(eps=-1.0), "eps: must be positive"),
        (lambda: TokenEmbeddingConfig(dropout=-0.1), "dropout: must be at least 0"),
        (lambda: TokenEmbeddingConfig(token_types=-1), "token_types: must not be negative"),
        (lambda: LearnedPositionsConfig(length=0), "length: must be positive"),
        (lambda: LearnedPositionsConfig(length=4, offset=-1), "offset: must not be negative"),
        (lambda: RopeConfig(theta={"global": 1e4, "local": 0.0}), "theta.local: must be positive"),
        (lambda: RopeConfig(theta={"global": 1e4}, fraction=0.0), "fraction: must be above 0"),
        (lambda: NTKScaling(factor=0.5), "factor: must be at least 1"),
        (lambda: YarnScaling(factor=2.0, original_length=0), "original_length: must be positive"),
        (
            lambda: YarnScaling(factor=2.0, original_length=9, beta_slow=40.0),
            "beta_slow: must be below beta_fast 32, got 40",
        ),
        (lambda: MegatronInitConfig(std=0.0), "std: must be positive"),
        (lambda: MegatronInitConfig(cutoff=0.0), "cutoff: must be positive"),
        (lambda: CrossEntropyConfig(z_loss=-1.0), "z_loss: must not be negative"),
        (lambda: CrossEntropyConfig(label_smoothing=1.0), "label_smoothing: must be at least 0"),
        (
            lambda: SequenceClassificationConfig(norm=None, num_labels=0),
            "num_labels: must be positive",
        ),
        (lambda: MultipleChoiceConfig(norm=None, num_labels=2), "num_labels: a choice has one"),
    ],
)
def test_a_wrong_value_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def rope(**options: Any) -> RopeConfig:
    return RopeConfig(**{"theta": {"global": 1e4, "local": 1e4}} | options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "attention.num_heads: must divide"),
        ({"hidden_size": 20}, "rope.fraction: must turn an even number .* 5"),
        (
            {"attention": attention_config(rope=rope(fraction=0.3))},
            "attention.rope.fraction: must turn an even number of the head's 8 dimensions",
        ),
        (
            {"attention": attention_config(rope=rope(theta={"global": 1e4}))},
            "attention.rope.theta: there are global and local layers, and bases for global",
        ),
        (
            {"attention": attention_config(rope=rope(theta={"64": 1e4, "local": 1e4}))},
            "attention.rope.theta: there are global and local layers, and bases for window 64 and",
        ),
        (
            {"attention": attention_config(windows="global")},
            "attention.rope.theta: there are global layers, and bases for global and local",
        ),
        (
            {"attention": attention_config(head_dim=2, rope=rope(scaling=NTKScaling(factor=2.0)))},
            "attention.rope.scaling: needs more than one pair",
        ),
        ({"attention": attention_config(rope=None)}, "attention.rope: nothing tells the model"),
        ({"block": PostNormConfig(norm=NORM)}, "final_norm: post_norm already ends each layer"),
        (
            {
                "embedding": TokenEmbeddingConfig(size=16, norm=NORM),
                "head": MLMHeadConfig(norm=None, dense=False),
            },
            "head.dense: is needed to tie the decoder to embeddings of size 16",
        ),
        (
            {
                "embedding": TokenEmbeddingConfig(),
                "init": MegatronInitConfig(small_embedding=True),
            },
            "init.small_embedding: needs embedding.norm",
        ),
        (
            {
                "hidden_size": 28,
                "embedding": TokenEmbeddingConfig(
                    size=7, positions=SinusoidalPositionsConfig(), norm=NORM
                ),
                "attention": attention_config(head_dim=8),
            },
            "embedding.positions: sinusoids need an even size, got 7",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_model(**changes)
