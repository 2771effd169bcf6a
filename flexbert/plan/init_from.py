"""Whether a recipe's model can be filled from the one that it names."""

from __future__ import annotations

from flexbert.checkpoint.contents import checked_state, model_config
from flexbert.checkpoint.file import read_checkpoint
from flexbert.checkpoint.tiling import plan_tiling
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import ModelConfig


def check_init_from(config: ModelConfig, source: InitFromConfig) -> bool:
    """Whether the checkpoint is at hand; if so, it can fill this model. Its weights are not read.

    Raises:
        UserError: if it cannot.
    """
    if source.checkpoint is None or not source.checkpoint.is_file():
        return False
    contents = read_checkpoint(source.checkpoint, mapped=True)
    old = model_config(contents, source.checkpoint)
    checked_state(contents, old, source.checkpoint)
    plan_tiling(config, old, source.method, source.depth)
    return True
