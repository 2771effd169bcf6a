"""All families, and which of them a model or a folder belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from flexbert.config.model import ModelConfig
from flexbert.errors import UserError, did_you_mean
from flexbert.huggingface.bert import Bert
from flexbert.huggingface.config_keys import Expressed
from flexbert.huggingface.eurobert import EuroBert
from flexbert.huggingface.family import MASKED_LM, Facts, Family
from flexbert.huggingface.gte import Gte
from flexbert.huggingface.modernbert import ModernBert
from flexbert.huggingface.nomicbert import NomicBert
from flexbert.huggingface.roberta import Roberta

FAMILIES: tuple[Family, ...] = (
    ModernBert(),
    Bert(),
    Roberta(),
    NomicBert(),
    Gte(),
    EuroBert(),
)


def transformers_version() -> str:
    return version("transformers")


def family_for(model: ModelConfig, facts: Facts) -> tuple[Family, Expressed]:
    """The family that a model can be written as, and its config there.

    Raises:
        UserError: if there is none, naming what the nearest one cannot express.
    """
    task = model.head.task
    able = [family for family in FAMILIES if task in family.classes]
    if not able:
        raise UserError(f"no architecture of transformers here has a head for {task}")
    expressed = [(family, family.express(model, facts)) for family in able]
    family, nearest = min(expressed, key=lambda pair: len(pair[1].problems))
    if nearest.problems:
        fields = "; ".join(f"model.{path} ({why})" for path, why in nearest.problems.items())
        raise UserError(
            f"no Hugging Face architecture of transformers {transformers_version()} expresses "
            f"this model; the nearest, {family.title}, does not have: {fields}"
        )
    return family, nearest


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a folder by its ``config.json``.

    Raises:
        UserError: if it is none of ours.
    """
    known = {family.model_type: family for family in FAMILIES}
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in known:
        raise UserError(f"model_type {model_type!r}; {did_you_mean(str(model_type), known)}")
    return known[model_type]


def task_of(config: Mapping[str, Any], family: Family) -> str | None:
    """What the model of a folder does; None for an encoder without a head.

    Raises:
        UserError: if it is none of the tasks there are heads for here.
    """
    given = config.get("architectures")
    if given is None:
        return MASKED_LM
    known = {name: task for task, name in family.classes.items()}
    known |= dict.fromkeys(family.also_masked_lm, MASKED_LM)
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):
        if given[0] == family.base_class:
            return None
        if given[0] in known:
            return known[given[0]]
    raise UserError(f"architectures {given!r}; {did_you_mean(str(given), known)}")
