"""MaskedLM is Hugging Face's ModernBertForMaskedLM, on ragged batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ModernBertConfig, ModernBertForMaskedLM

from flexbert.config.model import ModelConfig
from flexbert.nn.build import build_model
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.padded import PaddedModel
from tests.nn.cases import VOCAB_SIZE, attention_config, small_model
from tests.nn.tolerances import assert_same

MODELS = {
    "odd depth": small_model(num_layers=5),
    "one layer": small_model(num_layers=1),
    "one head, narrow window": small_model(attention=attention_config(num_heads=1, window=2)),
    "every second global": small_model(attention=attention_config(num_heads=8, global_every=2)),
    "biases, silu": small_model(
        attention=attention_config(bias=True),
        mlp=GLUConfig(intermediate_size=40, activation="silu", bias=True),
    ),
}
THEIR_NAMES = {
    "encoder.embedding.tokens": "model.embeddings.tok_embeddings",
    "encoder.embedding.norm": "model.embeddings.norm",
    "encoder.layers": "model.layers",
    "attention_norm": "attn_norm",
    "attention.qkv": "attn.Wqkv",
    "attention.out": "attn.Wo",
    "mlp.up": "mlp.Wi",
    "mlp.down": "mlp.Wo",
    "encoder.final_norm": "model.final_norm",
    "head.decoder": "decoder",
}


def their_name(name: str) -> str:
    for ours, theirs in THEIR_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def their_model(ours: MaskedLM, model: ModelConfig) -> ModernBertForMaskedLM:
    attention: Any = model.attention
    mlp: Any = model.mlp
    config = ModernBertConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_layers,
        intermediate_size=mlp.intermediate_size,
        hidden_activation=mlp.activation,
        mlp_bias=mlp.bias,
        num_attention_heads=attention.num_heads,
        attention_bias=attention.bias,
        local_attention=attention.window,
        global_attn_every_n_layers=attention.global_every,
        global_rope_theta=attention.rope.theta["global"],
        local_rope_theta=attention.rope.theta["local"],
        pad_token_id=0,
        attn_implementation="sdpa",
        reference_compile=False,
    )
    theirs = ModernBertForMaskedLM(config).eval()
    weights = {their_name(name): value for name, value in ours.state_dict().items()}
    unset = theirs.load_state_dict(weights, strict=False)
    assert unset == (["decoder.weight"], [])  # tied to the embedding
    return theirs


class Float64Rotary(nn.Module):
    """Theirs computes in float32 whatever the model's dtype."""

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.inv_freq = theta ** -(torch.arange(0, head_dim, 2).double() / head_dim)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = position_ids[..., None] * self.inv_freq.repeat(2)
        return angles.cos(), angles.sin()


def padded_batch() -> tuple[Tensor, Tensor]:
    """Padding on the right, on the left, none, and a document of one token."""
    attention_mask = torch.ones(4, 37, dtype=torch.long)
    attention_mask[0, 20:] = 0
    attention_mask[1, :9] = 0
    attention_mask[3, 1:] = 0
    return torch.randint(1, VOCAB_SIZE, (4, 37)), attention_mask


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_logits_and_gradients_equal_transformers(model: ModelConfig, dtype: torch.dtype) -> None:
    ours = build_model(model).to(dtype)
    theirs = their_model(ours, model).to(dtype)
    if dtype == torch.float64:
        for layer, theta in zip(theirs.model.layers, ours.encoder.layer_thetas, strict=True):
            layer.attn.rotary_emb = Float64Rotary(layer.attn.head_dim, theta)

    input_ids, attention_mask = padded_batch()
    is_real = attention_mask.bool()
    our_logits = PaddedModel(ours, model)(input_ids, attention_mask)[is_real]
    their_logits = theirs(input_ids, attention_mask).logits[is_real]
    assert_same(our_logits, their_logits)

    labels = torch.randint(VOCAB_SIZE, (len(our_logits),))
    labels[::3] = -100
    for logits in (our_logits, their_logits):
        F.cross_entropy(logits, labels).backward()
    their_gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert_same(parameter.grad, their_gradients[their_name(name)])
