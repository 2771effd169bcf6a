"""ModernBERT (Warner et al. 2024, arXiv 2412.13663)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flexbert.huggingface import activations
from flexbert.huggingface.family import CHOICE, MASKED_LM, SEQUENCE, TOKEN, Facts, Family
from flexbert.huggingface.keys import Key, Leaves, Tables
from flexbert.huggingface.names import NameTable

# One eps and one bias for all of them.
NORMS = ("embedding.norm", "block.norm", "final_norm", "head.norm")
LOCAL = "sliding_attention"
GLOBAL = "full_attention"
# What a config says of a window where no layer is local; transformers' own default.
UNUSED_WINDOW = 128

KEYS = (
    Key("vocab_size", ("vocab_size",)),
    Key("hidden_size", ("hidden_size",)),
    Key("num_hidden_layers", ("num_layers",)),
    Key("num_attention_heads", ("attention.num_heads",)),
    Key("attention_bias", ("attention.bias",)),
    Key("global_attn_every_n_layers", ("attention.global_every",)),
    # Both sides of a token together; an odd width loses its odd one there.
    Key("local_attention", ("attention.window",)),
    Key("global_rope_theta", ("attention.rope.theta.global",)),
    Key("local_rope_theta", ("attention.rope.theta.local",)),
    Key("intermediate_size", ("mlp.intermediate_size",)),
    Key("hidden_activation", ("mlp.activation",), activations.to_theirs, activations.to_ours),
    Key("mlp_bias", ("mlp.bias",)),
    Key("norm_eps", tuple(f"{norm}.eps" for norm in NORMS)),
    Key("norm_bias", tuple(f"{norm}.bias" for norm in NORMS)),
    Key("classifier_activation", ("head.activation",), activations.to_theirs, activations.to_ours),
    Key("classifier_bias", ("head.bias",)),
    Key("embedding_dropout", ("embedding.dropout",), only_training=True),
    Key("attention_dropout", ("attention.dropout", "attention.output_dropout"), only_training=True),
    Key("mlp_dropout", ("mlp.dropout",), only_training=True),
    Key("initializer_range", ("init.std",)),
    Key("initializer_cutoff_factor", ("init.cutoff",)),
)
LABELS = (
    Key("num_labels", ("head.num_labels",)),
    Key("classifier_dropout", ("head.dropout",), only_training=True),
)


def _pooling(name: str) -> str:
    if name == "max":
        raise ValueError("cls or mean there")
    return name


POOLING = Key("classifier_pooling", ("head.pooling",), _pooling)
HEAD_KEYS = {
    MASKED_LM: (
        Key("decoder_bias", ("head.decoder_bias",)),
        Key("tie_word_embeddings", ("head.tied",)),
    ),
    SEQUENCE: (*LABELS, POOLING),
    TOKEN: LABELS,
    CHOICE: (LABELS[1], POOLING),
}
FIXED: dict[str, Any] = {
    "embedding.name": "token",
    "embedding.positions": None,
    "embedding.token_types": 0,
    "embedding.size": None,
    "block.name": "pre_norm",
    "block.skip_first_norm": True,
    "attention.name": "multi_head",
    "attention.head_dim": None,
    "attention.num_kv_heads": None,
    "attention.output_bias": None,
    "attention.alibi": False,
    "attention.qk_norm": None,
    "attention.rope.name": "rope",
    "attention.rope.fraction": 1.0,
    "attention.rope.interleaved": False,
    "attention.rope.scaling": None,
    "mlp.name": "glu",
    "mlp.output_bias": None,
    "layers": {},
    "head.dense": True,
    **{f"{norm}.name": "layernorm" for norm in NORMS},
}


class ModernBert(Family):
    model_type = "modernbert"
    title = "ModernBERT"
    prefix = "model."
    classes: ClassVar[Mapping[str, str]] = {
        MASKED_LM: "ModernBertForMaskedLM",
        SEQUENCE: "ModernBertForSequenceClassification",
        TOKEN: "ModernBertForTokenClassification",
        CHOICE: "ModernBertForMultipleChoice",
    }
    base_class = "ModernBertModel"
    special_keys: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pad_token_id": ("pad",),
        "cls_token_id": ("cls",),
        "sep_token_id": ("sep",),
        "bos_token_id": ("bos", "cls"),
        "eos_token_id": ("eos", "sep"),
    }
    init: ClassVar[Mapping[str, Any]] = {
        "init.name": "megatron",
        "init.std": 0.02,
        "init.cutoff": 2.0,
        "init.small_embedding": False,
    }
    older_defaults: ClassVar[Mapping[str, Any]] = {
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "layer_types": None,
        "rope_parameters": None,
    }

    def tables(self, task: str, pad_id: int | None) -> Tables:
        fixed = {**FIXED, "head.name": "mlm" if task == MASKED_LM else task}
        if task == CHOICE:
            fixed["head.num_labels"] = 1
        return Tables(
            keys=(*KEYS, *HEAD_KEYS[task]),
            fixed=fixed | self.fixed_init(),
            only_training={"mlp.output_dropout": 0.0},
            ignored={"attention.backend": "auto"},
        )

    def names(self, task: str) -> NameTable:
        last = {"head.decoder": ("decoder",)}
        return NAMES | (last if task == MASKED_LM else {"head.classifier": ("classifier",)})

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        if task == MASKED_LM and tied:
            return {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
        return {}

    def adapt_ours(self, leaves: Leaves) -> None:
        theta = "attention.rope.theta"
        if leaves.get("attention.global_every") == 1 and f"{theta}.global" in leaves:
            leaves["attention.window"] = UNUSED_WINDOW
            leaves[f"{theta}.local"] = leaves[f"{theta}.global"]

    def finish_theirs(self, config: dict[str, Any], facts: Facts) -> None:
        config["max_position_embeddings"] = facts.max_length

    def add_newer_keys(self, config: dict[str, Any]) -> None:
        every = config["global_attn_every_n_layers"]
        config["layer_types"] = _layer_types(config["num_hidden_layers"], every)
        config["rope_parameters"] = {
            GLOBAL: {"rope_type": "default", "rope_theta": config["global_rope_theta"]},
            LOCAL: {"rope_type": "default", "rope_theta": config["local_rope_theta"]},
        }

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:
        _read_rope_parameters(config, given)
        _read_layer_types(config, given)
        if config["local_rope_theta"] is None:
            config["local_rope_theta"] = config["global_rope_theta"]
        if isinstance(config["local_attention"], int):
            config["local_attention"] -= config["local_attention"] % 2

    def finish_ours(self, leaves: Leaves) -> None:
        if leaves["attention.global_every"] == 1:
            leaves["attention.window"] = None
            leaves["attention.rope.theta.local"] = None


def _layer_types(num_layers: int, every: int) -> list[str]:
    return [LOCAL if index % every else GLOBAL for index in range(num_layers)]


def _read_rope_parameters(config: dict[str, Any], given: frozenset[str]) -> None:
    """What transformers 5 calls ``rope_parameters``, in the keys of 4.57."""
    scaling = config.get("rope_scaling")
    if scaling is not None and scaling != {"rope_type": "default"}:
        raise ValueError(f"rope_scaling {scaling!r}: only unscaled angles are known here")
    parameters = config.get("rope_parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict) or not parameters.keys() <= {GLOBAL, LOCAL}:
        raise ValueError(f"rope_parameters: expected {GLOBAL} and {LOCAL}, got {parameters!r}")
    for kind, key in ((GLOBAL, "global_rope_theta"), (LOCAL, "local_rope_theta")):
        entry = parameters.get(kind)
        if entry is None:
            continue
        if not isinstance(entry, dict) or entry.get("rope_type", "default") != "default":
            raise ValueError(f"rope_parameters.{kind}: only rope_type 'default' is known here")
        if not entry.keys() <= {"rope_type", "rope_theta"}:
            raise ValueError(f"rope_parameters.{kind}: unknown key in {sorted(entry)}")
        theta = entry.get("rope_theta")
        if theta is not None:
            if key in given and config[key] not in (None, theta):
                raise ValueError(
                    f"rope_parameters.{kind} has rope_theta {theta}, and {key} is {config[key]}"
                )
            config[key] = theta


def _read_layer_types(config: dict[str, Any], given: frozenset[str]) -> None:
    """What transformers 5 calls ``layer_types``, in the keys of 4.57."""
    types = config.get("layer_types")
    every, num_layers = config["global_attn_every_n_layers"], config["num_hidden_layers"]
    if types is None or not isinstance(num_layers, int):
        return
    if not isinstance(types, list) or len(types) != num_layers:
        raise ValueError(f"layer_types: expected a list of {num_layers}")
    # Without the older key, the shortest period that gives this pattern.
    periods = [every] if "global_attn_every_n_layers" in given else range(1, num_layers + 1)
    for period in periods:
        if isinstance(period, int) and period > 0 and types == _layer_types(num_layers, period):
            config["global_attn_every_n_layers"] = period
            return
    raise ValueError("layer_types: not a global layer every so many, beginning with the first")


NAMES = {
    "encoder.embedding.tokens": ("model.embeddings.tok_embeddings",),
    "encoder.embedding.norm": ("model.embeddings.norm",),
    "encoder.layers.{}.attention_norm": ("model.layers.{}.attn_norm",),
    "encoder.layers.{}.attention.qkv": ("model.layers.{}.attn.Wqkv",),
    "encoder.layers.{}.attention.out": ("model.layers.{}.attn.Wo",),
    "encoder.layers.{}.mlp_norm": ("model.layers.{}.mlp_norm",),
    "encoder.layers.{}.mlp.up": ("model.layers.{}.mlp.Wi",),
    "encoder.layers.{}.mlp.down": ("model.layers.{}.mlp.Wo",),
    "encoder.final_norm": ("model.final_norm",),
    "head.dense": ("head.dense",),
    "head.norm": ("head.norm",),
}
