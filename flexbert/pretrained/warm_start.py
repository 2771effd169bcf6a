"""``init_from``: a new model's weights from a trained one's."""

from __future__ import annotations

from flexbert.checkpoint.checkpoint_file import checkpoint_file, read_checkpoint
from flexbert.checkpoint.tiling import plan_tiling, tile
from flexbert.checkpoint.weights import checked_weights, model_config
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, config_errors_under, user_errors_at
from flexbert.nn.build import Model
from flexbert.pretrained.load_model import read_model


def check_init_from(config: ModelConfig, source: InitFromConfig) -> None:
    """Refuse a trained model that cannot fill this one; its weights are not read.

    A Hugging Face folder is looked at when it is read.

    Raises:
        UserError: if it cannot, or is not there.
    """
    if source.checkpoint is None:
        raise ConfigError("init_from.checkpoint", "is still to be given (???)")
    if (source.checkpoint / "config.json").is_file():
        return
    with user_errors_at("init_from.checkpoint"):
        checkpoint = read_checkpoint(checkpoint_file(source.checkpoint))
        old = model_config(checkpoint)
        checked_weights(checkpoint, old)
    plan_tiling(config, old, source.method, source.depth)


def init_from(model: Model, config: ModelConfig, source: InitFromConfig) -> list[str]:
    """Fill an initialised model as its recipe says.

    Returns:
        Notes on what was taken and what stayed as drawn, for people.

    Raises:
        UserError: if the source cannot be read, or its weights cannot fill this model.
    """
    if source.checkpoint is None:
        raise ConfigError("init_from.checkpoint", "is still to be given (???)")
    with config_errors_under("init_from.checkpoint"):
        old = read_model(source.checkpoint)
    tiling = plan_tiling(config, old.config, source.method, source.depth)
    notes = tile(model, old.weights, tiling)
    return [f"weights from {source.checkpoint} ({source.method})", *notes]
