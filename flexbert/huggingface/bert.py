"""BERT (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flexbert.huggingface import activation_names
from flexbert.huggingface.config_keys import Tables, TheirKey
from flexbert.huggingface.family import ANSWER, CHOICE, MASKED_LM, SEQUENCE, TOKEN, Family
from flexbert.huggingface.parameter_names import NameTable

NORMS = ("embedding.norm", "block.norm")


def _some_token_types(count: int) -> int:
    if count == 0:
        raise ValueError("at least 1 there")
    return count


TOKEN_TYPES = TheirKey("type_vocab_size", ("embedding.token_types",), _some_token_types)


def keys(
    *, norms: tuple[str, ...], activations_of: tuple[str, ...], dropouts: tuple[str, ...]
) -> tuple[TheirKey, ...]:
    """What the encoder can vary, but for positions and token types.

    Args:
        norms: all that share the one eps.
        activations_of: fields that share the one activation.
        dropouts: fields that share the one dropout.
    """
    return (
        TheirKey("vocab_size", ("vocab_size",)),
        TheirKey("hidden_size", ("hidden_size",)),
        TheirKey("num_hidden_layers", ("num_layers",)),
        TheirKey("num_attention_heads", ("attention.num_heads",)),
        TheirKey("intermediate_size", ("mlp.intermediate_size",)),
        TheirKey("hidden_act", activations_of, *activation_names.BOTH_WAYS),
        TheirKey("layer_norm_eps", tuple(f"{norm}.eps" for norm in norms)),
        TheirKey("hidden_dropout_prob", dropouts, only_training=True),
        TheirKey("attention_probs_dropout_prob", ("attention.dropout",), only_training=True),
        TheirKey("initializer_range", ("init.std",)),
    )


# Of all that have BERT's layers, whatever their positions and matrices.
POST_NORM: dict[str, Any] = {
    "embedding.name": "token",
    "embedding.size": None,
    "block.name": "post_norm",
    "attention.name": "multi_head",
    "attention.num_kv_heads": None,
    "attention.output_bias": None,
    "layers": {},
    "final_norm": None,
}
ENCODER: dict[str, Any] = {
    **POST_NORM,
    "embedding.positions.name": "learned",
    "attention.head_dim": None,
    "attention.windows": "global",
    "attention.rope": None,
    "attention.alibi": False,
    "attention.qk_norm": None,
    "attention.bias": True,
    "mlp.name": "mlp",
    "mlp.bias": True,
    "mlp.output_bias": None,
}
# A pooled sequence goes through BERT's pooler, a token straight to its classifier.
POOLED = {
    "head.dense": True,
    "head.bias": True,
    "head.activation": "tanh",
    "head.norm": None,
    "head.pooling": "cls",
}
STRAIGHT = {
    "head.dense": False,
    "head.bias": False,
    "head.activation": None,
    "head.norm": None,
}
HEADS: dict[str, dict[str, Any]] = {
    MASKED_LM: {"head.name": "mlm", "head.dense": True, "head.bias": True},
    SEQUENCE: {"head.name": SEQUENCE, **POOLED},
    TOKEN: {"head.name": TOKEN, **STRAIGHT},
    CHOICE: {"head.name": CHOICE, "head.num_labels": 1, **POOLED},
    ANSWER: {"head.name": ANSWER, "head.num_labels": 2, **STRAIGHT},
}
# Answers are read off hidden states without a dropout there.
ONLY_TRAINING = {ANSWER: {"head.dropout": 0.0}}
LABELS = TheirKey("num_labels", ("head.num_labels",))
DROPOUT = TheirKey("classifier_dropout", ("head.dropout",), only_training=True)
HEAD_KEYS: dict[str, tuple[TheirKey, ...]] = {
    MASKED_LM: (TheirKey("tie_word_embeddings", ("head.tied",)),),
    SEQUENCE: (LABELS, DROPOUT),
    TOKEN: (LABELS, DROPOUT),
    CHOICE: (DROPOUT,),
    ANSWER: (),
}


class Bert(Family):
    model_type = "bert"
    title = "BERT"
    prefix = "bert."
    classes: ClassVar[Mapping[str, str]] = {
        MASKED_LM: "BertForMaskedLM",
        SEQUENCE: "BertForSequenceClassification",
        TOKEN: "BertForTokenClassification",
        CHOICE: "BertForMultipleChoice",
        ANSWER: "BertForQuestionAnswering",
    }
    base_class = "BertModel"
    also_masked_lm: ClassVar[tuple[str, ...]] = ("BertForPreTraining",)
    special_keys: ClassVar[Mapping[str, tuple[str, ...]]] = {"pad_token_id": ("pad",)}
    init: ClassVar[Mapping[str, Any]] = {
        "init.name": "normal",
        "init.std": 0.02,
        "init.small_embedding": False,
    }

    # Whether the masked-LM head has the layers' activation, or its own.
    head_shares_activation = True
    more_keys: ClassVar[tuple[TheirKey, ...]] = (
        TheirKey("max_position_embeddings", ("embedding.positions.length",)),
        TOKEN_TYPES,
    )
    dropouts: ClassVar[tuple[str, ...]] = (
        "embedding.dropout",
        "attention.output_dropout",
        "mlp.output_dropout",
    )
    only_training: ClassVar[Mapping[str, Any]] = {"mlp.dropout": 0.0}

    def encoder(self, pad_id: int | None) -> dict[str, Any]:
        """Fields of the encoder that always have one value there."""
        return {**ENCODER, "embedding.positions.offset": self.offset(pad_id)}

    def offset(self, pad_id: int | None) -> object:
        """Rows of the position table before that of position 0."""
        return 0

    def tables(self, task: str, pad_id: int | None) -> Tables:
        norms: tuple[str, ...] = NORMS
        shared: tuple[str, ...] = ("mlp.activation",)
        head = dict(HEADS[task])
        if task == MASKED_LM:
            norms += ("head.norm",)
            head["head.decoder_bias"] = True
            if self.head_shares_activation:
                shared += ("head.activation",)
            else:
                head["head.activation"] = "gelu"
        always = {f"{norm}.{key}": value for norm in norms for key, value in LAYERNORM.items()}
        varied = keys(norms=norms, activations_of=shared, dropouts=self.dropouts)
        return Tables(
            keys=(*varied, *self.more_keys, *HEAD_KEYS[task]),
            fixed={
                **self.encoder(pad_id),
                **head,
                **always,
                **self.fixed_init(),
            },
            only_training={**self.only_training, **ONLY_TRAINING.get(task, {})},
            ignored={"attention.backend": "auto"},
        )

    def names(self, task: str) -> NameTable:
        return encoder_names(self.prefix) | HEAD_NAMES[task]

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        if task != MASKED_LM:
            return {}
        names = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
        if tied:
            names["cls.predictions.decoder.weight"] = "bert.embeddings.word_embeddings.weight"
        return names

    def left_out(self, task: str) -> tuple[str, ...]:
        buffer = f"{self.prefix}embeddings.position_ids"
        pooler = f"{self.prefix}pooler."
        return {
            MASKED_LM: (buffer, pooler, "cls.seq_relationship."),
            TOKEN: (buffer, pooler),
            ANSWER: (buffer, pooler),
        }.get(task, (buffer,))

    def refused(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "add_cross_attention": False,
        }

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:
        if config.get("classifier_dropout") is None:
            config["classifier_dropout"] = config["hidden_dropout_prob"]

    def finish_theirs(self, config: dict[str, Any], facts: Any) -> None:
        config["position_embedding_type"] = "absolute"


LAYERNORM = {"name": "layernorm", "bias": True}


def encoder_names(prefix: str) -> dict[str, tuple[str, ...]]:
    """The names of the encoder's tensors, under the name that a model has it by."""
    layer = f"{prefix}encoder.layer.{{}}."
    return {
        "encoder.embedding.tokens": (f"{prefix}embeddings.word_embeddings",),
        "encoder.embedding.positions.table": (f"{prefix}embeddings.position_embeddings",),
        "encoder.embedding.token_types": (f"{prefix}embeddings.token_type_embeddings",),
        "encoder.embedding.norm": (f"{prefix}embeddings.LayerNorm",),
        "encoder.layers.{}.attention.qkv": (
            f"{layer}attention.self.query",
            f"{layer}attention.self.key",
            f"{layer}attention.self.value",
        ),
        "encoder.layers.{}.attention.out": (f"{layer}attention.output.dense",),
        "encoder.layers.{}.attention_norm": (f"{layer}attention.output.LayerNorm",),
        "encoder.layers.{}.mlp.up": (f"{layer}intermediate.dense",),
        "encoder.layers.{}.mlp.down": (f"{layer}output.dense",),
        "encoder.layers.{}.mlp_norm": (f"{layer}output.LayerNorm",),
    }


POOLER: dict[str, tuple[str, ...]] = {
    "head.dense": ("bert.pooler.dense",),
    "head.classifier": ("classifier",),
}
HEAD_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    MASKED_LM: {
        "head.dense": ("cls.predictions.transform.dense",),
        "head.norm": ("cls.predictions.transform.LayerNorm",),
        "head.decoder.bias": ("cls.predictions.bias",),
        "head.decoder": ("cls.predictions.decoder",),
    },
    SEQUENCE: POOLER,
    TOKEN: {"head.classifier": ("classifier",)},
    CHOICE: POOLER,
    ANSWER: {"head.classifier": ("qa_outputs",)},
}
