"""ModernBERT (Warner et al. 2024, arXiv 2412.13663)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flexbert.config import layer_windows
from flexbert.huggingface import activation_names
from flexbert.huggingface.config_keys import Leaves, Tables, TheirKey
from flexbert.huggingface.family import (
    ANSWER,
    CHOICE,
    MASKED_LM,
    SEQUENCE,
    TOKEN,
    Facts,
    Family,
)
from flexbert.huggingface.parameter_names import NameTable

# One eps and one bias for all of them.
NORMS = ("embedding.norm", "block.norm", "final_norm", "head.norm")
LOCAL = "sliding_attention"
GLOBAL = "full_attention"
# What a config says of a window where no layer is local; transformers' own default.
UNUSED_WINDOW = 128
# A deeper model is not begun with: its pattern is searched in a time that grows by the square.
LARGEST_DEPTH = 2048
WINDOWS, TYPES, THETA = "attention.windows", "attention.layer_types", "attention.rope.theta"


def _width(windows: Any) -> int:
    """The one width of local layers."""
    widths = sorted(set(windows) - {layer_windows.GLOBAL}) if isinstance(windows, list) else []
    if len(widths) > 1:
        raise ValueError("local layers have one window there")
    return widths[0] if widths else UNUSED_WINDOW


KEYS = (
    TheirKey("vocab_size", ("vocab_size",)),
    TheirKey("hidden_size", ("hidden_size",)),
    TheirKey("num_hidden_layers", ("num_layers",)),
    TheirKey("num_attention_heads", ("attention.num_heads",)),
    TheirKey("attention_bias", ("attention.bias",)),
    TheirKey("layer_types", (TYPES,)),
    # Both sides of a token together; an odd width loses its odd one there.
    TheirKey("local_attention", (WINDOWS,), _width),
    TheirKey("global_rope_theta", (f"{THETA}.global",)),
    TheirKey("local_rope_theta", (f"{THETA}.local",)),
    TheirKey("intermediate_size", ("mlp.intermediate_size",)),
    TheirKey(
        "hidden_activation",
        ("mlp.activation",),
        activation_names.to_theirs,
        activation_names.to_ours,
    ),
    TheirKey("mlp_bias", ("mlp.bias",)),
    TheirKey("norm_eps", tuple(f"{norm}.eps" for norm in NORMS)),
    TheirKey("norm_bias", tuple(f"{norm}.bias" for norm in NORMS)),
    TheirKey(
        "classifier_activation",
        ("head.activation",),
        activation_names.to_theirs,
        activation_names.to_ours,
    ),
    TheirKey("classifier_bias", ("head.bias",)),
    TheirKey("embedding_dropout", ("embedding.dropout",), only_training=True),
    TheirKey(
        "attention_dropout", ("attention.dropout", "attention.output_dropout"), only_training=True
    ),
    TheirKey("mlp_dropout", ("mlp.dropout",), only_training=True),
    TheirKey("initializer_range", ("init.std",)),
    TheirKey("initializer_cutoff_factor", ("init.cutoff",)),
)
LABELS = (
    TheirKey("num_labels", ("head.num_labels",)),
    TheirKey("classifier_dropout", ("head.dropout",), only_training=True),
)


def _pooling(name: str) -> str:
    if name == "max":
        raise ValueError("cls or mean there")
    return name


POOLING = TheirKey("classifier_pooling", ("head.pooling",), _pooling)
HEAD_KEYS = {
    MASKED_LM: (
        TheirKey("decoder_bias", ("head.decoder_bias",)),
        TheirKey("tie_word_embeddings", ("head.tied",)),
    ),
    SEQUENCE: (*LABELS, POOLING),
    TOKEN: LABELS,
    CHOICE: (LABELS[1], POOLING),
    ANSWER: (LABELS[1],),
}
# Of tasks that leave no choice.
NUM_LABELS = {CHOICE: 1, ANSWER: 2}
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
        ANSWER: "ModernBertForQuestionAnswering",
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
        if task in NUM_LABELS:
            fixed["head.num_labels"] = NUM_LABELS[task]
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
        windows = leaves[WINDOWS]
        if not isinstance(windows, list):
            windows = [windows] * leaves["num_layers"]
        types = [GLOBAL if window == layer_windows.GLOBAL else LOCAL for window in windows]
        leaves[TYPES] = types
        _name_thetas(leaves, set(windows))
        # Both bases are written there; the one without a layer has no use.
        given, absent = f"{THETA}.global", f"{THETA}.local"
        if GLOBAL not in types:
            given, absent = absent, given
        if len(set(types)) == 1 and given in leaves:
            leaves[absent] = leaves[given]

    def finish_theirs(self, config: dict[str, Any], facts: Facts) -> None:
        config["global_attn_every_n_layers"] = _global_every(config["layer_types"])
        config["max_position_embeddings"] = facts.max_length

    def add_newer_keys(self, config: dict[str, Any]) -> None:
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
        types = leaves.pop(TYPES)
        names = {LOCAL: leaves[WINDOWS], GLOBAL: layer_windows.GLOBAL}
        windows = [names[kind] for kind in types]
        period = _period(windows)
        if period == 1:
            leaves[WINDOWS] = windows[0]
        elif period == len(windows):
            leaves[WINDOWS] = windows
        else:
            leaves[WINDOWS] = {layer_windows.REPEAT: windows[:period]}
        if LOCAL not in types:
            leaves[f"{THETA}.local"] = None
        if GLOBAL not in types:
            leaves[f"{THETA}.global"] = None


def _name_thetas(leaves: Leaves, windows: set[Any]) -> None:
    """A base that is named by the one window there is becomes that of local layers."""
    for path in [path for path in leaves if path.startswith(f"{THETA}.")]:
        width = path.removeprefix(f"{THETA}.")
        if width.isdecimal() and leaves[path] is None:
            del leaves[path]
        elif width.isdecimal() and windows <= {int(width), layer_windows.GLOBAL}:
            leaves[f"{THETA}.local"] = leaves.pop(path)


def _layer_types(num_layers: int, every: int) -> list[str]:
    return [LOCAL if index % every else GLOBAL for index in range(num_layers)]


def _global_every(types: list[str]) -> int | None:
    """The n of which every n-th layer is global, from the first on; None if it is not so."""
    for every in range(1, len(types) + 1):
        if types == _layer_types(len(types), every):
            return every
    return None


def _period(values: list[Any]) -> int:
    """After how many values they repeat."""
    return next(n for n in range(1, len(values) + 1) if values[n:] == values[:-n])


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
    """What transformers 5 calls ``layer_types``, from the key of 4.57 where they are not given."""
    types, num_layers = config.get("layer_types"), config["num_hidden_layers"]
    every = config["global_attn_every_n_layers"]
    if not isinstance(num_layers, int) or not 0 < num_layers <= LARGEST_DEPTH:
        raise ValueError(f"num_hidden_layers: {num_layers!r} is no sensible value")
    if types is None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"global_attn_every_n_layers: must be positive, got {every!r}")
        config["layer_types"] = _layer_types(num_layers, every)
        return
    if not isinstance(types, list) or len(types) != num_layers or not {*types} <= {GLOBAL, LOCAL}:
        raise ValueError(f"layer_types: expected a list of {num_layers}, each {GLOBAL} or {LOCAL}")
    if "global_attn_every_n_layers" in given and every is not None:
        if not isinstance(every, int) or every < 1 or types != _layer_types(num_layers, every):
            raise ValueError(f"layer_types: not those of global_attn_every_n_layers {every!r}")
    else:
        config["global_attn_every_n_layers"] = _global_every(types)


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
