"""NomicBERT, GTE and EuroBERT are Hugging Face's, in logits and gradients; so are the models of
``yamls/models``, and longer documents by every scaling of the angles that transformers has."""

from __future__ import annotations

import pytest
import torch

from flexbert.config.model import ModelConfig
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.padded import PaddedModel
from flexbert.nn.rope import RopeConfig
from flexbert.nn.rope_scaling import DynamicNTKScaling, LinearScaling, ScalingConfig, YarnScaling
from tests.huggingface.cases import (
    GENTLE,
    MODELS,
    NORM,
    VOCAB_SIZE,
    eurobert,
    gte,
    nomicbert,
    random_model,
    their_model,
)
from tests.huggingface.parity import check_logits_and_gradients
from tests.nn.small_published import small_published
from tests.nn.tolerances import assert_same

ROTARY = ("nomicbert", "gte", "eurobert")


def scaled(scaling: ScalingConfig) -> MultiHeadConfig:
    return MultiHeadConfig(num_heads=4, rope=RopeConfig(theta={"global": 1000.0}, scaling=scaling))


CASES = {
    **{name: model for name, model in MODELS.items() if name.split()[0] in ROTARY},
    "nomicbert, untied, biases, wide heads": nomicbert(
        attention=MultiHeadConfig(
            num_heads=2, head_dim=24, rope=RopeConfig(theta={"global": 1000.0})
        ),
        head=MLMHeadConfig(norm=NORM, activation="silu", bias=True, tied=False),
    ),
    "gte, untied, token types": gte(
        embedding=TokenEmbeddingConfig(norm=NORM, token_types=2),
        head=MLMHeadConfig(norm=NORM, bias=True, tied=False),
    ),
    "eurobert, tied, biases, wide heads": eurobert(
        attention=MultiHeadConfig(
            num_heads=4,
            num_kv_heads=1,
            head_dim=12,
            bias=True,
            rope=RopeConfig(theta={"global": 500.0}),
        ),
        mlp=GLUConfig(intermediate_size=40, activation="gelu", bias=True),
        head=MLMHeadConfig(dense=False, activation=None, norm=None),
    ),
    "nomicbert, linear": nomicbert(attention=scaled(LinearScaling(factor=3.0))),
    "eurobert, yarn": eurobert(
        attention=scaled(YarnScaling(factor=4.0, original_length=16, beta_fast=4.0))
    ),
    "nomicbert.yaml": small_published("nomicbert", f"model.init.std={GENTLE.std}"),
    "gte-en-mlm-base.yaml": small_published("gte-en-mlm-base", f"model.init.std={GENTLE.std}"),
    "gte-en-mlm-large.yaml": small_published("gte-en-mlm-large", f"model.init.std={GENTLE.std}"),
    "eurobert-210m.yaml": small_published("eurobert-210m", "model.attention.num_kv_heads=4"),
    "eurobert-610m.yaml": small_published("eurobert-610m", "model.attention.num_kv_heads=2"),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", CASES.values(), ids=CASES.keys())
def test_logits_and_gradients_equal_transformers(model: ModelConfig, dtype: torch.dtype) -> None:
    check_logits_and_gradients(model, dtype)


@pytest.mark.parametrize("make", [nomicbert, eurobert])
@torch.no_grad()
def test_dynamic_scaling_equals_transformers_one_document_at_a_time(make: type) -> None:
    """By the longest document of a batch it scales there, by each document's own length here."""
    config = make(attention=scaled(DynamicNTKScaling(factor=2.0, original_length=16)))
    model = random_model(config).eval()
    theirs, _ = their_model(model, config)
    ours = PaddedModel(model, config)  # type: ignore[arg-type]
    # Theirs keeps the angles of a longer document for a shorter one after it.
    for length in (3, 16, 17, 40):
        ids = torch.randint(2, VOCAB_SIZE, (1, length))
        mask = torch.ones_like(ids)
        assert_same(ours(ids, mask), theirs(input_ids=ids, attention_mask=mask).logits)
