"""What NomicBERT and GTE share: BERT's layers with rotary embeddings and a gated MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flexbert.huggingface import rope_keys
from flexbert.huggingface.bert import POST_NORM, Bert
from flexbert.huggingface.config_keys import Leaves
from flexbert.huggingface.family import MASKED_LM, TOKEN, Facts
from flexbert.huggingface.parameter_names import NameTable


class RotaryBert(Bert):
    """BERT with rotary embeddings; transformers has no multiple choice and no
    question answering for any of them."""

    also_masked_lm = ()
    layers: ClassVar[Mapping[str, Any]]
    encoder_names: ClassVar[NameTable]
    head_names: ClassVar[Mapping[str, NameTable]]

    def encoder(self, pad_id: int | None) -> dict[str, Any]:
        gated = {"embedding.positions": None, "mlp.name": "glu"}
        return {**POST_NORM, **rope_keys.FIXED, **gated, **self.layers}

    def names(self, task: str) -> NameTable:
        return {**self.encoder_names, **self.head_names[task]}

    def left_out(self, task: str) -> tuple[str, ...]:
        return (f"{self.prefix}pooler.",) if task in (MASKED_LM, TOKEN) else ()

    def refused(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def adapt_ours(self, leaves: Leaves) -> None:
        rope_keys.gather(leaves)

    def adapt_theirs(self, config: dict[str, Any], given: frozenset[str]) -> None:
        super().adapt_theirs(config, given)
        rope_keys.read(config, given)

    def add_newer_keys(self, config: dict[str, Any]) -> None:
        rope_keys.write(config)

    def finish_theirs(self, config: dict[str, Any], facts: Facts) -> None:
        config.setdefault(rope_keys.LENGTH, facts.max_length)
