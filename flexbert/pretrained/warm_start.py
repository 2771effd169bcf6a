"""``init_from``: a new model's weights from a trained one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flexbert.checkpoint.tiling import plan_tiling, tile
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, config_errors_under, user_errors_at
from flexbert.nn.build import Model
from flexbert.pretrained.architecture import check_function, describe_model
from flexbert.pretrained.load_model import read_model
from flexbert.pretrained.vocabulary import by_token, check_same_vocabulary

Tokenizer = Mapping[str, str]


def check_init_from(
    config: ModelConfig,
    source: InitFromConfig,
    tokenizer: Tokenizer | None,
    given: Sequence[str] = (),
    max_length: int | None = None,
) -> list[str]:
    """Refuse a trained model that cannot fill this one, or whose ids or function are others.

    Args:
        tokenizer: of the corpus, file name to text; None where none is at hand yet.
        given: dotted keys of the command line.
        max_length: of the recipe's sequences, in tokens.

    Returns:
        What is to be said of it.

    Raises:
        UserError: if it cannot, or is not there.
    """
    path = _path(source)
    with user_errors_at("init_from.checkpoint"):
        described = describe_model(path)
    notes = []
    old = described.config
    if tokenizer is not None and not described.tokenizer:
        notes.append(f"note: {path} has no tokenizer to compare the corpus's with")
    elif tokenizer is not None and source.vocabulary == "same":
        check_same_vocabulary(tokenizer, described.tokenizer, path)
    if source.vocabulary == "by_token":
        old = replace(old, vocab_size=config.vocab_size)
    plan_tiling(config, old, source.method, source.depth)
    notes += check_function(config, old, source, given)
    if None not in (max_length, described.max_length) and max_length != described.max_length:
        notes.append(
            f"note: init_from: data.max_length is {max_length}, {described.max_length} in "
            "the checkpoint"
        )
    return notes


def init_from(
    model: Model, config: ModelConfig, source: InitFromConfig, tokenizer: Tokenizer
) -> list[str]:
    """Fill an initialised model as its recipe says.

    Args:
        tokenizer: of the corpus, file name to text.

    Returns:
        Notes on what was taken and what stayed as drawn, for people.

    Raises:
        UserError: if the source cannot be read, or its weights cannot fill this model.
    """
    path = _path(source)
    with config_errors_under("init_from.checkpoint"):
        read = read_model(path)
    old, weights, notes = read.config, read.weights, list[str]()
    if source.vocabulary == "by_token":
        old, weights, notes = by_token(read, tokenizer, config.vocab_size)
    tiling = plan_tiling(config, old, source.method, source.depth)
    return [f"weights from {path} ({source.method})", *notes, *tile(model, weights, tiling)]


def _path(source: InitFromConfig) -> Path:
    if source.checkpoint is None:
        raise ConfigError("init_from.checkpoint", "is still to be given (???)")
    return source.checkpoint
