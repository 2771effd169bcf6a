"""NomicBERT (Nussbaum et al. 2024, arXiv 2402.01613), as transformers 5 has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from flexbert.config.model import ModelConfig
from flexbert.huggingface import rope_keys
from flexbert.huggingface.bert import TOKEN_TYPES
from flexbert.huggingface.config_keys import Leaves, TheirKey
from flexbert.huggingface.family import MASKED_LM, SEQUENCE, TOKEN, Facts
from flexbert.huggingface.parameter_names import NameTable
from flexbert.huggingface.rotary_bert import RotaryBert

PREFIX = "nomic_bert."
HEAD = "cls.predictions."
LAYER = f"{PREFIX}encoder.layers.{{}}."
# Of our state dict, and where the released model has none of them.
BIASES = {"head.bias": "head.dense.bias", "head.decoder_bias": "head.decoder.bias"}


class NomicBert(RotaryBert):
    """transformers always has biases in the head, the released model has none: a head without is
    written with biases of zeros, and a bias of zeros is read as none."""

    model_type = "nomic_bert"
    title = "NomicBERT"
    prefix = PREFIX
    classes: ClassVar[Mapping[str, str]] = {
        MASKED_LM: "NomicBertForMaskedLM",
        SEQUENCE: "NomicBertForSequenceClassification",
        TOKEN: "NomicBertForTokenClassification",
    }
    base_class = "NomicBertModel"
    older_defaults: ClassVar[Mapping[str, Any]] = rope_keys.older_defaults(1000.0)
    zero_biases: ClassVar[Mapping[str, str]] = {
        "head.bias": f"{HEAD}transform.dense.bias",
        "head.decoder_bias": f"{HEAD}bias",
    }
    more_keys: ClassVar[tuple[TheirKey, ...]] = (
        TOKEN_TYPES,
        TheirKey("head_dim", ("attention.head_dim",)),
        *rope_keys.KEYS,
    )
    layers: ClassVar[Mapping[str, Any]] = {
        "attention.bias": False,
        "mlp.bias": False,
        "mlp.output_bias": None,
    }
    encoder_names: ClassVar[NameTable] = {
        "encoder.embedding.tokens": (f"{PREFIX}embeddings.word_embeddings",),
        "encoder.embedding.token_types": (f"{PREFIX}embeddings.token_type_embeddings",),
        "encoder.embedding.norm": (f"{PREFIX}emb_ln",),
        "encoder.layers.{}.attention.qkv": (f"{LAYER}attn.Wqkv",),
        "encoder.layers.{}.attention.out": (f"{LAYER}attn.out_proj",),
        "encoder.layers.{}.attention_norm": (f"{LAYER}norm1",),
        "encoder.layers.{}.mlp.up": (f"{LAYER}mlp.fc12", f"{LAYER}mlp.fc11"),
        "encoder.layers.{}.mlp.down": (f"{LAYER}mlp.fc2",),
        "encoder.layers.{}.mlp_norm": (f"{LAYER}norm2",),
    }
    head_names: ClassVar[Mapping[str, NameTable]] = {
        MASKED_LM: {
            "head.dense": (f"{HEAD}transform.dense",),
            "head.norm": (f"{HEAD}transform.layer_norm",),
            "head.decoder.bias": (f"{HEAD}bias",),
            "head.decoder": (f"{HEAD}decoder",),
        },
        SEQUENCE: {"head.dense": (f"{PREFIX}pooler.dense",), "head.classifier": ("classifier",)},
        TOKEN: {"head.classifier": ("classifier",)},
    }

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        if task != MASKED_LM:
            return {}
        names = {f"{HEAD}decoder.bias": f"{HEAD}bias"}
        if tied:
            names[f"{HEAD}decoder.weight"] = f"{PREFIX}embeddings.word_embeddings.weight"
        return names

    def left_out(self, task: str) -> tuple[str, ...]:
        biases = (*self.zero_biases.values(), f"{HEAD}decoder.bias") if task == MASKED_LM else ()
        return (*super().left_out(task), *biases)

    def weights(self, state: Mapping[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
        zeros = {}
        if model.head.task == MASKED_LM:
            rows = (state["head.dense.weight"], state["encoder.embedding.tokens.weight"])
            zeros = {
                name: torch.zeros(len(matrix), dtype=matrix.dtype)
                for name, matrix in zip(BIASES.values(), rows, strict=True)
            }
        return super().weights({**zeros, **state}, model)

    def adapt_ours(self, leaves: Leaves) -> None:
        super().adapt_ours(leaves)
        if leaves.get("head.name") == "mlm" and leaves.get("head.dense"):
            leaves.update(dict.fromkeys(BIASES, True))

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:
        super().adapt_theirs(config, given)
        rope_keys.without_usual_head_dim(config)

    def finish_theirs(self, config: dict[str, Any], facts: Facts) -> None:
        super().finish_theirs(config, facts)
        if config["pad_token_id"] is None:
            # It has to be a number there; the default does no harm to what is computed.
            del config["pad_token_id"]
