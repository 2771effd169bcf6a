"""``start_from``: another run's checkpoint that a new run goes on from."""

from __future__ import annotations

from pathlib import Path

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import CheckpointError, checkpoint_file, read_checkpoint
from flexbert.checkpoint.weights import checked_weights
from flexbert.config.model import ModelConfig
from flexbert.errors import user_errors_at


def read_restart(path: Path, config: ModelConfig) -> Checkpoint:
    """A checkpoint from which a run of this model can go on.

    Raises:
        ConfigError: if there is nothing to go on from in it, or it is of another model.
    """
    with user_errors_at("start_from"):
        checkpoint = read_checkpoint(checkpoint_file(path))
        if checkpoint.training is None:
            raise CheckpointError(
                f"{checkpoint.name} holds weights alone (made by average, import or save_model): "
                "give it as init_from.checkpoint"
            )
        checked_weights(checkpoint, config)
    return checkpoint
