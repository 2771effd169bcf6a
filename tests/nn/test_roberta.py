"""RoBERTa is Hugging Face's, on padded, packed and packed batches, in logits and gradients."""

from __future__ import annotations

import pytest
import torch

from flexbert.config.model import ModelConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.mlp import PlainMLPConfig
from tests.huggingface.cases import MODELS as ALL
from tests.huggingface.cases import NORM, roberta
from tests.huggingface.parity import check_logits_and_gradients

MODELS = {
    "one layer": roberta(num_layers=1),
    # Its head keeps gelu whatever the layers have.
    "relu layers": roberta(mlp=PlainMLPConfig(intermediate_size=40, activation="relu", bias=True)),
    "untied": roberta(head=MLMHeadConfig(norm=NORM, bias=True, tied=False)),
    **{name: model for name, model in ALL.items() if name.startswith("roberta")},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_logits_and_gradients_equal_transformers(model: ModelConfig, dtype: torch.dtype) -> None:
    check_logits_and_gradients(model, dtype)
