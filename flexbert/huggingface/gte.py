"""GTE's encoder (Zhang et al. 2024, arXiv 2407.19669), as transformers 5 has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from flexbert.huggingface import rope_keys
from flexbert.huggingface.config_keys import TheirKey
from flexbert.huggingface.family import MASKED_LM, SEQUENCE, TOKEN
from flexbert.huggingface.parameter_names import NameTable
from flexbert.huggingface.rotary_bert import RotaryBert

PREFIX = "gte."
LAYER = f"{PREFIX}encoder.layer.{{}}."
GATED = "mlp.up_gate_proj.weight"


class Gte(RotaryBert):
    model_type = "gte"
    title = "GTE"
    prefix = PREFIX
    older_prefix = "new."
    classes: ClassVar[Mapping[str, str]] = {
        MASKED_LM: "GteForMaskedLM",
        SEQUENCE: "GteForSequenceClassification",
        TOKEN: "GteForTokenClassification",
    }
    base_class = "GteModel"
    head_shares_activation = False
    older_defaults: ClassVar[Mapping[str, Any]] = rope_keys.older_defaults(160_000.0)
    # Token types may be none.
    more_keys: ClassVar[tuple[TheirKey, ...]] = (
        TheirKey("type_vocab_size", ("embedding.token_types",)),
        *rope_keys.KEYS,
    )
    dropouts: ClassVar[tuple[str, ...]] = (*RotaryBert.dropouts, "mlp.dropout")
    only_training: ClassVar[Mapping[str, Any]] = {}
    layers: ClassVar[Mapping[str, Any]] = {
        "attention.bias": True,
        "attention.head_dim": None,
        "mlp.bias": False,
        "mlp.output_bias": True,
    }
    encoder_names: ClassVar[NameTable] = {
        "encoder.embedding.tokens": (f"{PREFIX}embeddings.word_embeddings",),
        "encoder.embedding.token_types": (f"{PREFIX}embeddings.token_type_embeddings",),
        "encoder.embedding.norm": (f"{PREFIX}embeddings.LayerNorm",),
        "encoder.layers.{}.attention.qkv": (f"{LAYER}attention.qkv_proj",),
        "encoder.layers.{}.attention.out": (f"{LAYER}attention.o_proj",),
        "encoder.layers.{}.attention_norm": (f"{LAYER}attn_ln",),
        "encoder.layers.{}.mlp.up": (f"{LAYER}mlp.up_gate_proj",),
        "encoder.layers.{}.mlp.down": (f"{LAYER}mlp.down_proj",),
        "encoder.layers.{}.mlp_norm": (f"{LAYER}mlp_ln",),
    }
    head_names: ClassVar[Mapping[str, NameTable]] = {
        MASKED_LM: {
            "head.dense": ("lm_head.dense",),
            "head.norm": ("lm_head.norm",),
            "head.decoder": ("lm_head.decoder",),
        },
        SEQUENCE: {"head.dense": (f"{PREFIX}pooler.dense",), "head.classifier": ("classifier",)},
        TOKEN: {"head.classifier": ("classifier",)},
    }

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        if task == MASKED_LM and tied:
            return {"lm_head.decoder.weight": f"{PREFIX}embeddings.word_embeddings.weight"}
        return {}

    def rearranged(self, name: str, tensor: Tensor) -> Tensor:
        """Their second half is the one that is activated, ours is the first."""
        return torch.cat(tensor.chunk(2)[::-1]) if name.endswith(GATED) else tensor
