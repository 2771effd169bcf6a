"""Which layer of an old model each layer of a new one starts from."""

from __future__ import annotations

from flexbert.config.init_from import DepthMapping
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError


def layer_sources(new: ModelConfig, old: ModelConfig, depth: DepthMapping) -> tuple[int, ...]:
    """The old layer for each new one, where the new model is at least as deep.

    ``scaled`` is Gopher's layer scaling (Rae et al. 2021), ``round(i * old / new)``, kept from
    running past the end. From ModernBERT-base to -large it gives 12 of 28 layers one of the other
    attention kind. ``same_kind`` takes the nearest to ``i * old / new`` with the same window, or
    with any window where the old model has none of this width; of two as near, the lower.

    Raises:
        ConfigError: if the old model has no layer of a kind that the new one has.
    """
    if depth == "same_kind":
        return _nearest_of_same_kind(new, old)
    last = old.num_layers - 1
    return tuple(
        min(round(i * old.num_layers / new.num_layers), last) for i in range(new.num_layers)
    )


def _nearest_of_same_kind(new: ModelConfig, old: ModelConfig) -> tuple[int, ...]:
    sources = []
    old_plan = layer_plan(old)
    for layer in layer_plan(new):
        same_kind = [source for source in old_plan if source.attention == layer.attention]
        same_window = [source for source in same_kind if source.window == layer.window]
        alike = [source.index for source in same_window or same_kind]
        if not alike:
            raise ConfigError(
                "init_from.depth",
                f"layer {layer.index} is {layer.attention}, and no layer of the checkpoint's model "
                "is: give scaled",
            )
        # Distances are multiplied by the new depth, so that ties are exact.
        place = layer.index * old.num_layers
        sources.append(min(alike, key=lambda source: abs(source * new.num_layers - place)))
    return tuple(sources)
