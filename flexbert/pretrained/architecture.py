"""The model that a checkpoint or folder holds, as the part of a recipe that it decides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flexbert.checkpoint.checkpoint_file import checkpoint_file, read_checkpoint
from flexbert.checkpoint.weights import checked_weights, model_config
from flexbert.config.encode import encode
from flexbert.config.fields import FUNCTION
from flexbert.config.init_from import InitFromConfig
from flexbert.config.keys import leaves
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, UserError, user_errors_at
from flexbert.huggingface.folder import is_model_folder
from flexbert.huggingface.importing import describe_folder, located
from flexbert.huggingface.tokenizer import has_tokenizer, read_tokenizer

# Keys that say in several ways what the plan of the layers says in one.
_OF_THE_PLAN = re.compile(r"\.(windows|rope\.theta)(\.|$)")


class ModelDescription(NamedTuple):
    """What a file or folder says of its model.

    Attributes:
        tokenizer: file name to text; empty where there is none.
        max_length: the longest document it is for, in tokens; None if nothing tells.
    """

    config: ModelConfig
    tokenizer: Mapping[str, str]
    max_length: int | None


def describe_model(path: Path, *, verify: bool = True) -> ModelDescription:
    """A trained model without its weights.

    Args:
        path: a checkpoint, a run's folder, a Hugging Face folder or a name on the Hub.
        verify: see :func:`~flexbert.checkpoint.checkpoint_file.read_checkpoint`.

    Raises:
        UserError: if it cannot be read, or has no masked-LM head.
    """
    path = located(path)
    if not is_model_folder(path):
        checkpoint = read_checkpoint(checkpoint_file(path), verify=verify)
        config = model_config(checkpoint)
        checked_weights(checkpoint, config)
        return ModelDescription(config, checkpoint.tokenizer, checkpoint.max_length)
    described = describe_folder(path)
    if described.task is None:
        raise UserError(f"{path}: {described.family.base_class} has no head")
    model_type = described.family.model_type
    tokenizer = read_tokenizer(path, model_type) if has_tokenizer(path) else {}
    return ModelDescription(described.config, tokenizer, described.max_length)


def read_architecture(path: Path) -> dict[str, Any]:
    """The part of a recipe that a trained model decides: ``model`` and ``data.max_length``.

    Args:
        path: see :func:`describe_model`.

    Raises:
        UserError: if it cannot be read, or has no masked-LM head.
    """
    with user_errors_at("init_from.checkpoint"):
        described = describe_model(path, verify=False)
    tree: dict[str, Any] = {"model": encode(described.config)}
    if described.max_length is not None:
        tree["data"] = {"max_length": described.max_length}
    return tree


def check_function(
    config: ModelConfig, old: ModelConfig, source: InitFromConfig, given: Iterable[str]
) -> list[str]:
    """Refuse a model that takes a trained one's weights and computes something else with them.

    Args:
        old: the trained one's.
        given: dotted keys of the command line.

    Returns:
        What differs as it was asked to, for people.

    Raises:
        ConfigError: if more differs.
    """
    differing = function_differences(config, old, is_tiled=source.method != "copy")
    allowed = (*given, *source.changes)
    refused = {
        key: values
        for key, values in differing.items()
        if not any(_covers(a, key) for a in allowed)
    }
    if refused:
        key, (was, _) = next(iter(refused.items()))
        raise ConfigError(
            "init_from",
            "the recipe's model computes something else than the checkpoint's: "
            f"{'; '.join(_sentences(refused))}; give the checkpoint's values "
            f"({key}={_shown(was)}), take all with init_from.architecture=checkpoint, or name what "
            f"is to differ in init_from.changes=[{key}]",
        )
    return [f"note: init_from: {text}" for text in _sentences(differing)]


def function_differences(
    config: ModelConfig, old: ModelConfig, *, is_tiled: bool
) -> dict[str, tuple[Any, Any]]:
    """Keys that decide what is computed and differ, with the old value and the new one.

    Args:
        is_tiled: sizes may differ, as whole numbers.
    """
    new_values, old_values = _deciding(config), _deciding(old)
    same_plan = _plan(config) == _plan(old)
    found = {}
    for key in {**old_values, **new_values}:
        values = old_values.get(key), new_values.get(key)
        of_plan = _OF_THE_PLAN.search(key) is not None
        is_size = is_tiled and not of_plan and all(type(v) is int or v is None for v in values)
        if values[0] != values[1] and not is_size and not (of_plan and same_plan):
            found[key] = values
    return found


def _deciding(config: ModelConfig) -> dict[str, Any]:
    """The keys that decide what is computed; windows as a whole, which are written in two ways."""
    values: dict[str, Any] = {}
    for leaf in leaves(config):
        if leaf.role is FUNCTION and leaf.path != "name":
            path, within, key = f"model.{leaf.path}".partition(".windows.")
            if within:
                values.setdefault(f"{path}.windows", {})[key] = leaf.value
            else:
                values[path] = leaf.value
    return values


def _plan(config: ModelConfig) -> list[tuple[Any, ...]]:
    return [(layer.window, layer.theta) for layer in layer_plan(config)]


def _covers(allowed: str, key: str) -> bool:
    """Whether a key, as a recipe writes it, is ``key`` or stands above it, in any stage."""
    allowed = re.sub(r"^stages\.[^.]+\.", "", allowed)
    return key == allowed or key.startswith(f"{allowed}.")


def _sentences(differing: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [
        f"{key} is {_shown(new)}, {_shown(was)} in the checkpoint"
        for key, (was, new) in differing.items()
    ]


def _shown(value: Any) -> str:
    """As a recipe writes it."""
    return value if isinstance(value, str) else json.dumps(value)
