"""What a run begins from, checked before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flexbert.checkpoint.contents import checked_state, model_config
from flexbert.checkpoint.file import CheckpointError, checkpoint_file, read_checkpoint
from flexbert.checkpoint.tiling import plan_tiling
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, user_errors_at


def check_init_from(config: ModelConfig, source: InitFromConfig) -> None:
    """Refuse a trained model that cannot fill this one; its weights are not read.

    A Hugging Face folder is left to be looked at when it is read.

    Raises:
        UserError: if it cannot, or is not there.
    """
    if source.checkpoint is None:
        raise ConfigError("init_from.checkpoint", "is still to be given (???)")
    if (source.checkpoint / "config.json").is_file():
        return
    with user_errors_at("init_from.checkpoint"):
        path = checkpoint_file(source.checkpoint)
        contents = read_checkpoint(path, mapped=True)
        old = model_config(contents, path)
        checked_state(contents, old, path)
    plan_tiling(config, old, source.method, source.depth)


def read_start(path: Path, config: ModelConfig, *, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint from which a run of this model can go on.

    Args:
        mapped: as :func:`~flexbert.checkpoint.file.read_checkpoint` has it.

    Raises:
        ConfigError: if there is nothing to go on from in it, or it is of another model.
    """
    with user_errors_at("start_from"):
        path = checkpoint_file(path)
        contents = read_checkpoint(path, mapped=mapped)
        if "optimizers" not in contents["state"]:
            raise CheckpointError(
                f"{path} holds weights alone (made by average, import or save_model): give it as "
                "init_from.checkpoint"
            )
        checked_state(contents, config, path)
    return contents
