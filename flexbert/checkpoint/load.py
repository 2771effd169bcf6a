"""A trained model from its checkpoint file alone."""

from __future__ import annotations

from pathlib import Path

from flexbert.checkpoint.file import CheckpointError, read_checkpoint
from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError
from flexbert.nn.masked_lm import MaskedLM, PaddedMaskedLM


def load_model(path: str | Path) -> PaddedMaskedLM:
    """The masked-LM module of a checkpoint, on the CPU, in eval mode.

    Called with ``input_ids [B, T]`` and ``attention_mask [B, T]`` it returns logits ``[B, T, V]``.

    Raises:
        CheckpointError: if the file cannot be read or its weights are not those of its recipe.
    """
    path = Path(path)
    contents = read_checkpoint(path)
    register_all()
    try:
        config = decode(ModelConfig, contents["recipe"]["model"])
        model = MaskedLM(config)
        model.load_state_dict(contents["state"]["model"])
    except (ConfigError, KeyError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{path}: weights and recipe do not fit together ({reason})"
        ) from None
    return PaddedMaskedLM(model).eval()
