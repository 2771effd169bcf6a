"""A new model's weights from a trained one's."""

from __future__ import annotations

from flexbert.checkpoint.load import read_model
from flexbert.checkpoint.tiling import plan_tiling, tile
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, config_errors_under
from flexbert.nn.build import Model


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
    notes = tile(model, old.state, tiling)
    return [f"weights from {source.checkpoint} ({source.method})", *notes]
