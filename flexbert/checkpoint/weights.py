"""A checkpoint's model: its config and weights checked before they are believed, and built."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flexbert.checkpoint.checkpoint import Checkpoint, Weights
from flexbert.checkpoint.checkpoint_file import CheckpointError
from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.config.plugins import changed_text, missing_text
from flexbert.errors import ConfigError, UserError, first_line
from flexbert.nn.build import Model, new_model


def model_config(checkpoint: Checkpoint) -> ModelConfig:
    """The typed model section of a checkpoint's recipe.

    Raises:
        CheckpointError: if there is none, or this FlexBERT cannot read it.
    """
    register_all()
    try:
        config = decode(ModelConfig, checkpoint.recipe["model"])
    except (ConfigError, KeyError, TypeError, OverflowError) as error:
        missing = missing_text(checkpoint.recipe)
        raise CheckpointError(
            f"{checkpoint.name}: {missing or 'holds no model this FlexBERT knows'} ({error})"
        ) from None
    if changed := changed_text(config, checkpoint.recipe):
        warnings.warn(f"{checkpoint.name}: its model is {changed}", stacklevel=2)
    return config


def checked_weights(
    checkpoint: Checkpoint, config: ModelConfig, weights: Weights | None = None
) -> Weights:
    """A checkpoint's weights, if they are those of ``config``; nothing is allocated.

    Args:
        weights: to be checked in place of the model's own: a moving average.

    Raises:
        CheckpointError: if names or shapes differ.
    """
    weights = checkpoint.model if weights is None else weights
    try:
        problem = _misfit(weights, expected_shapes(config, most=len(weights)))
    except (TypeError, UserError) as error:
        problem = str(error)
    if problem is not None:
        raise CheckpointError(
            f"{checkpoint.name}: weights and recipe do not fit together ({problem})"
        )
    return weights


def model_of(checkpoint: Checkpoint, config: ModelConfig) -> Model:
    """The model of ``config`` with a checkpoint's weights, every one of them and no other.

    Raises:
        CheckpointError: if names or shapes differ.
    """
    return filled_model(config, checked_weights(checkpoint, config))


def filled_model(config: ModelConfig, weights: Weights) -> Model:
    """The model with these weights, copied, in float32; they are known to fit."""
    with torch.device("meta"):
        model = new_model(config)
    model.load_state_dict(
        {name: value.to(torch.float32, copy=True) for name, value in weights.items()}, assign=True
    )
    return model


def _misfit(state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or not tensor.dtype.is_floating_point:
            return f"{name} is no tensor of floating-point numbers"
        if not is_plain(tensor):
            return f"{name} is no plain tensor"
    for name, shape in shapes.items():
        if name not in state:
            near = difflib.get_close_matches(name, state.keys() - shapes.keys(), n=1)
            return f"no {name}" + (f"; there is {near[0]}" if near else "")
        if tuple(state[name].shape) != shape:
            return f"{name} has the shape {list(state[name].shape)}, not {list(shape)}"
    unknown = sorted(state.keys() - shapes.keys())
    return f"the model has no {unknown[0]}" if unknown else None


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is what it seems: a view may claim to be larger than what is stored."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def expected_shapes(config: ModelConfig, *, most: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters of a model, which is not allocated.

    Args:
        most: how many there are; a deeper model is not begun with.

    Raises:
        UserError: if there must be more.
    """
    if config.num_layers > most:
        raise UserError(f"{config.num_layers} layers are said to be in {most} tensors")
    try:
        with torch.device("meta"):
            model = new_model(config)
    except RuntimeError as error:
        raise UserError(f"sizes that no model has ({first_line(error)})") from None
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
