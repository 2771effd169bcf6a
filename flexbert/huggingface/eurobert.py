"""EuroBERT (Boizard et al. 2025, arXiv 2503.05500), as transformers 5 has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flexbert.config.model import ModelConfig
from flexbert.huggingface import activation_names, rope_keys
from flexbert.huggingface.config_keys import Leaves, Tables, TheirKey
from flexbert.huggingface.family import MASKED_LM, SEQUENCE, TOKEN, Facts, Family
from flexbert.huggingface.parameter_names import NameTable, Sizes

NORMS = ("block.norm", "final_norm")
LAYER = "model.layers.{}."
ATTENTION = f"{LAYER}self_attn."
POOLINGS = {"cls": "bos", "mean": "mean"}


def _pooling_to_theirs(name: str) -> str:
    if name not in POOLINGS:
        raise ValueError(f"{' or '.join(POOLINGS)} there")
    return POOLINGS[name]


def _pooling_to_ours(name: object) -> str:
    known = {theirs: ours for ours, theirs in POOLINGS.items()}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{name!r} is not known here, {' and '.join(known)} are")
    return known[name]


KEYS = (
    TheirKey("vocab_size", ("vocab_size",)),
    TheirKey("hidden_size", ("hidden_size",)),
    TheirKey("num_hidden_layers", ("num_layers",)),
    TheirKey("num_attention_heads", ("attention.num_heads",)),
    TheirKey("num_key_value_heads", ("attention.num_kv_heads",)),
    TheirKey("head_dim", ("attention.head_dim",)),
    TheirKey("attention_bias", ("attention.bias",)),
    TheirKey("intermediate_size", ("mlp.intermediate_size",)),
    TheirKey("hidden_act", ("mlp.activation",), *activation_names.BOTH_WAYS),
    TheirKey("rms_norm_eps", tuple(f"{norm}.eps" for norm in NORMS)),
    TheirKey("attention_dropout", ("attention.dropout",), only_training=True),
    TheirKey("initializer_range", ("init.std",)),
    *rope_keys.KEYS,
)
LABELS = TheirKey("num_labels", ("head.num_labels",))
MLP_BIAS = "mlp_bias"
HEAD_KEYS: dict[str, tuple[TheirKey, ...]] = {
    # One key for the layers' MLPs and the decoder.
    MASKED_LM: (
        TheirKey(MLP_BIAS, ("mlp.bias", "head.decoder_bias")),
        TheirKey("tie_word_embeddings", ("head.tied",)),
    ),
    SEQUENCE: (
        TheirKey(MLP_BIAS, ("mlp.bias",)),
        LABELS,
        TheirKey("classifier_pooling", ("head.pooling",), _pooling_to_theirs, _pooling_to_ours),
    ),
    TOKEN: (TheirKey(MLP_BIAS, ("mlp.bias",)), LABELS),
}
NO_TRANSFORM: dict[str, Any] = {
    "head.dense": False,
    "head.bias": False,
    "head.activation": None,
    "head.norm": None,
}
HEADS: dict[str, dict[str, Any]] = {
    MASKED_LM: {"head.name": "mlm", **NO_TRANSFORM},
    SEQUENCE: {
        "head.name": SEQUENCE,
        "head.dense": True,
        "head.bias": True,
        "head.activation": "gelu",
        "head.norm": None,
    },
    TOKEN: {"head.name": TOKEN, **NO_TRANSFORM},
}
FIXED: dict[str, Any] = {
    **rope_keys.FIXED,
    "embedding.name": "token",
    "embedding.positions": None,
    "embedding.token_types": 0,
    "embedding.size": None,
    "embedding.norm": None,
    "block.name": "pre_norm",
    "block.skip_first_norm": False,
    "attention.name": "multi_head",
    "attention.output_bias": None,
    "mlp.name": "glu",
    "mlp.output_bias": None,
    "layers": {},
    **{f"{norm}.name": "rmsnorm" for norm in NORMS},
    **{f"{norm}.bias": False for norm in NORMS},
}
DROPOUTS = ("embedding.dropout", "attention.output_dropout", "mlp.dropout", "mlp.output_dropout")


class EuroBert(Family):
    model_type = "eurobert"
    title = "EuroBERT"
    prefix = "model."
    classes: ClassVar[Mapping[str, str]] = {
        MASKED_LM: "EuroBertForMaskedLM",
        SEQUENCE: "EuroBertForSequenceClassification",
        TOKEN: "EuroBertForTokenClassification",
    }
    base_class = "EuroBertModel"
    special_keys: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pad_token_id": ("pad",),
        "bos_token_id": ("bos", "cls"),
        "eos_token_id": ("eos", "sep"),
        "mask_token_id": ("mask",),
    }
    init: ClassVar[Mapping[str, Any]] = {
        "init.name": "normal",
        "init.std": 0.02,
        "init.small_embedding": False,
    }
    older_defaults: ClassVar[Mapping[str, Any]] = rope_keys.older_defaults(10_000.0)

    def tables(self, task: str, pad_id: int | None) -> Tables:
        dropouts = DROPOUTS if task == MASKED_LM else (*DROPOUTS, "head.dropout")
        return Tables(
            keys=(*KEYS, *HEAD_KEYS[task]),
            fixed=FIXED | HEADS[task] | self.fixed_init(),
            only_training=dict.fromkeys(dropouts, 0.0),
            ignored={"attention.backend": "auto"},
        )

    def names(self, task: str) -> NameTable:
        return {**NAMES, **HEAD_NAMES[task]}

    def sizes(self, model: ModelConfig) -> Sizes:
        attention = model.attention
        head_dim = attention.size_of_head(model.hidden_size)
        kv_heads = getattr(attention, "num_kv_heads", None) or attention.num_heads
        queries, keys = attention.num_heads * head_dim, kv_heads * head_dim
        return {"encoder.layers.{}.attention.qkv": (queries, keys, keys)}

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        if task == MASKED_LM and tied:
            return {"lm_head.weight": "model.embed_tokens.weight"}
        return {}

    def adapt_ours(self, leaves: Leaves) -> None:
        rope_keys.gather(leaves)

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:
        rope_keys.read(config, given)
        rope_keys.without_usual_head_dim(config)
        if config["num_key_value_heads"] == config["num_attention_heads"]:
            config["num_key_value_heads"] = None

    def add_newer_keys(self, config: dict[str, Any]) -> None:
        rope_keys.write(config)

    def finish_theirs(self, config: dict[str, Any], facts: Facts) -> None:
        config.setdefault(rope_keys.LENGTH, facts.max_length)
        if config["mask_token_id"] is None:
            # It has to be a number there; the default does no harm to what is computed.
            del config["mask_token_id"]


NAMES: NameTable = {
    "encoder.embedding.tokens": ("model.embed_tokens",),
    "encoder.layers.{}.attention_norm": (f"{LAYER}input_layernorm",),
    "encoder.layers.{}.attention.qkv": (
        f"{ATTENTION}q_proj",
        f"{ATTENTION}k_proj",
        f"{ATTENTION}v_proj",
    ),
    "encoder.layers.{}.attention.out": (f"{ATTENTION}o_proj",),
    "encoder.layers.{}.mlp_norm": (f"{LAYER}post_attention_layernorm",),
    "encoder.layers.{}.mlp.up": (f"{LAYER}mlp.gate_proj", f"{LAYER}mlp.up_proj"),
    "encoder.layers.{}.mlp.down": (f"{LAYER}mlp.down_proj",),
    "encoder.final_norm": ("model.norm",),
}
HEAD_NAMES: dict[str, NameTable] = {
    MASKED_LM: {"head.decoder": ("lm_head",)},
    SEQUENCE: {"head.dense": ("dense",), "head.classifier": ("classifier",)},
    TOKEN: {"head.classifier": ("classifier",)},
}
