"""The head that a model's architecture has for a task in transformers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from flexbert.config.model import ModelConfig
from flexbert.errors import UserError
from flexbert.huggingface.families import FAMILIES, family_for
from flexbert.huggingface.family import Facts, Family
from flexbert.huggingface.tokenizer import special_ids
from flexbert.pretrained.load_model import config_with_head

_CHOSEN = ("dense", "bias", "activation", "norm", "pooling")


def architecture_head(
    model: ModelConfig, tokenizer: Mapping[str, str], head: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields that a head always has in transformers, under a model's encoder.

    BERT's pooler is a dense layer and a tanh over [CLS], for instance. With these fields a model
    can be exported.

    Args:
        tokenizer: file name to text.
        head: as a recipe writes it, its name and the number of labels at least.

    Returns:
        Nothing where no architecture there has both the encoder and a head for the task, or where
        the tokenizer has more tokens than the model: neither can be exported.
    """
    try:
        facts = _facts(model, tokenizer)
    except UserError:
        return {}
    for family in FAMILIES:
        if head["name"] in family.classes:
            fields = _fixed_fields(family, head["name"], facts)
            own = config_with_head(model, {**head, **fields})
            if not family.express(own, facts).problems:
                return fields
    return {}


def check_export(model: ModelConfig, tokenizer: Mapping[str, str], head: Mapping[str, Any]) -> None:
    """See that a model can be exported with a head.

    Raises:
        UserError: if it cannot be, naming what the nearest architecture does not have.
    """
    family_for(config_with_head(model, head), _facts(model, tokenizer))


def _fixed_fields(family: Family, task: str, facts: Facts) -> dict[str, Any]:
    fixed = family.tables(task, facts.special_ids.get("pad")).fixed
    return {name: fixed[f"head.{name}"] for name in _CHOSEN if f"head.{name}" in fixed}


def _facts(model: ModelConfig, tokenizer: Mapping[str, str]) -> Facts:
    ids = _special_ids(tuple(sorted(tokenizer.items())), model.vocab_size)
    return Facts(special_ids=ids, max_length=model.embedding.max_length or 1)


@functools.lru_cache(maxsize=1)
def _special_ids(
    tokenizer: tuple[tuple[str, str], ...], vocab_size: int
) -> Mapping[str, int | None]:
    return special_ids(dict(tokenizer), vocab_size)
