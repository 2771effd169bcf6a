"""A trained model from its checkpoint file, or from a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexbert.checkpoint.file import CheckpointError, read_checkpoint
from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError
from flexbert.nn.build import Model, new_model
from flexbert.nn.padded import PaddedModel


def load_model(path: str | Path) -> PaddedModel:
    """The model of a checkpoint or a Hugging Face folder, on the CPU, in eval mode.

    Called with ``input_ids [B, T]`` and ``attention_mask [B, T]``, a masked LM returns logits
    ``[B, T, V]``.

    Raises:
        UserError: if the file or folder cannot be read, or its weights are not those of its
            recipe.
    """
    path = Path(path)
    contents = read_checkpoint(path)
    config = model_config(contents, path)
    return PaddedModel(model_of(contents, config, path), config).eval()


def model_config(contents: Mapping[str, Any], path: Path) -> ModelConfig:
    """The typed model section of a checkpoint's recipe.

    Raises:
        CheckpointError: if there is none, or this FlexBERT cannot read it.
    """
    register_all()
    try:
        return decode(ModelConfig, contents["recipe"]["model"])
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no model this FlexBERT knows ({error})") from None


def model_of(contents: Mapping[str, Any], config: ModelConfig, path: Path) -> Model:
    """The model of ``config`` with a checkpoint's weights, every one of them and no other.

    Raises:
        CheckpointError: if names or shapes differ.
    """
    model = new_model(config)
    try:
        model.load_state_dict(contents["state"]["model"])
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{path}: weights and recipe do not fit together ({reason})"
        ) from None
    return model
