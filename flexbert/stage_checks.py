"""What stages need of their corpora and of each other, checked before anything is built."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from flexbert.config.model import ModelConfig
from flexbert.config.recipe import Recipe
from flexbert.data.packing.word_borders import unit_borders
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import ConfigError
from flexbert.nn.build import new_model
from flexbert.schedule.stages import Stage, changes


def open_corpora(recipe: Recipe) -> Corpora:
    """The corpora of a stage.

    Raises:
        UserError: if they cannot be used for it.
    """
    corpora = Corpora.open(recipe.data)
    check_corpora(recipe, corpora)
    return corpora


def _of_a_trained_model(recipe: Recipe) -> str:
    if recipe.init_from is None:
        return ""
    return (
        "; or make the corpus with the trained model's tokenizer: another one means other words by "
        "its ids, unless init_from.vocabulary=by_token"
    )


def check_corpora(recipe: Recipe, corpora: Corpora) -> None:
    """Refuse corpora that this recipe cannot train on.

    Raises:
        ConfigError: if they hold ids that the model has no embedding for, or words are to be
            masked and their tokenizer does not tell them.
        CorpusError: if a split is empty or damaged.
    """
    vocab_size = corpora.meta.vocab_size
    if vocab_size > recipe.model.vocab_size:
        raise ConfigError(
            "model.vocab_size",
            f"{recipe.model.vocab_size} is too small for the tokenizer of {corpora.first.folder}, "
            f"which has {vocab_size} entries; nearest multiple of 64: "
            f"{math.ceil(vocab_size / 64) * 64}{_of_a_trained_model(recipe)}",
        )
    unit_borders(recipe.data.masking, corpora.first.folder)
    for name in ("train", "validation"):
        for split in corpora.splits(name).values():
            split.require_documents()


def check_transitions(stages: Sequence[Stage], corpora: Sequence[Corpora | None]) -> None:
    """Refuse stages that cannot follow one another.

    Args:
        corpora: of each stage, where they are there.

    Raises:
        ConfigError: if one stage's weights are not those of another, or its tokens.
    """
    for before, after in itertools.pairwise(stages):
        _check_weights(before, after)
    known = [
        (stage, c.meta.tokenizer_sha256) for stage, c in zip(stages, corpora, strict=True) if c
    ]
    for (first, tokenizer), (stage, other) in itertools.pairwise(known):
        if other != tokenizer:
            raise ConfigError(
                f"stages.{stage.name}.data",
                f"its corpus was made with another tokenizer than that of {first.name}; "
                "make both with the same one",
            )


def _check_weights(before: Stage, after: Stage) -> None:
    old, new = before.recipe.model, after.recipe.model
    if old == new:
        return
    shapes, others = _shapes(old), _shapes(new)
    differing = [name for name in {**shapes, **others} if shapes.get(name) != others.get(name)]
    if differing:
        changed = [key for key in changes(before, after) if key.startswith("model.")]
        name = differing[0]
        raise ConfigError(
            f"stages.{after.name}.{changed[0]}",
            f"the weights of {before.name} cannot follow: {name} is {_show(shapes.get(name))} "
            f"there and {_show(others.get(name))} here",
        )


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = new_model(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _show(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))
