"""RoBERTa (Liu et al. 2019): BERT with other heads, its positions counted from the pad id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from flexbert.huggingface.bert import Bert, encoder_names
from flexbert.huggingface.config_keys import Leaves, Tables
from flexbert.huggingface.family import ANSWER, CHOICE, MASKED_LM, SEQUENCE, TOKEN
from flexbert.huggingface.parameter_names import NameTable

LENGTH, OFFSET = "embedding.positions.length", "embedding.positions.offset"


class Roberta(Bert):
    model_type = "roberta"
    title = "RoBERTa"
    prefix = "roberta."
    classes: ClassVar[Mapping[str, str]] = {
        MASKED_LM: "RobertaForMaskedLM",
        SEQUENCE: "RobertaForSequenceClassification",
        TOKEN: "RobertaForTokenClassification",
        CHOICE: "RobertaForMultipleChoice",
        ANSWER: "RobertaForQuestionAnswering",
    }
    base_class = "RobertaModel"
    also_masked_lm = ()
    special_keys: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pad_token_id": ("pad",),
        "bos_token_id": ("bos", "cls"),
        "eos_token_id": ("eos", "sep"),
    }
    head_shares_activation = False

    def offset(self, pad_id: int | None) -> object:
        return "the pad token's id + 1" if pad_id is None else pad_id + 1

    def tables(self, task: str, pad_id: int | None) -> Tables:
        tables = super().tables(task, pad_id)
        if task != CHOICE:
            return tables
        by_name = {key.name: key for key in tables.keys}
        del by_name["classifier_dropout"]
        shared = by_name["hidden_dropout_prob"]
        by_name[shared.name] = replace(shared, paths=(*shared.paths, "head.dropout"))
        return replace(tables, keys=tuple(by_name.values()))

    def names(self, task: str) -> NameTable:
        return encoder_names(self.prefix) | HEAD_NAMES[task]

    def repeated(self, task: str, tied: bool) -> Mapping[str, str]:
        if task != MASKED_LM:
            return {}
        names = {"lm_head.decoder.bias": "lm_head.bias"}
        if tied:
            names["lm_head.decoder.weight"] = "roberta.embeddings.word_embeddings.weight"
        return names

    def left_out(self, task: str) -> tuple[str, ...]:
        buffer, pooler = "roberta.embeddings.position_ids", "roberta.pooler."
        return (buffer,) if task == CHOICE else (buffer, pooler)

    # A position table there counts the rows before position 0 in its length.

    def adapt_ours(self, leaves: Leaves) -> None:
        if LENGTH in leaves:
            leaves[LENGTH] += leaves[OFFSET]

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:
        super().adapt_theirs(config, given)
        if not isinstance(config["pad_token_id"], int):
            raise ValueError("pad_token_id: positions count from it, so it has to be a number")

    def finish_ours(self, leaves: Leaves) -> None:
        leaves[LENGTH] -= leaves[OFFSET]

    def training_notes(self, leaves: Leaves) -> list[str]:
        if leaves.get("head.name") == SEQUENCE and leaves.get("head.dropout"):
            return ["model.head.dropout comes before the dense layer too; it only matters training"]
        return []


POOLED = {"head.dense": ("roberta.pooler.dense",), "head.classifier": ("classifier",)}
HEAD_NAMES: dict[str, dict[str, Any]] = {
    MASKED_LM: {
        "head.dense": ("lm_head.dense",),
        "head.norm": ("lm_head.layer_norm",),
        "head.decoder.bias": ("lm_head.bias",),
        "head.decoder": ("lm_head.decoder",),
    },
    SEQUENCE: {
        "head.dense": ("classifier.dense",),
        "head.classifier": ("classifier.out_proj",),
    },
    TOKEN: {"head.classifier": ("classifier",)},
    CHOICE: POOLED,
    ANSWER: {"head.classifier": ("qa_outputs",)},
}
