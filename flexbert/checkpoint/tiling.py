"""A larger model from a smaller one's weights, by tiling its matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from flexbert.checkpoint.model_parts import ModelPart, check_parts, check_sizes, pair_parts, part_of
from flexbert.config.init_from import DepthMapping, InitMethod
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError
from flexbert.nn.build import Model, build_model
from flexbert.nn.projection import Decoder
from flexbert.nn.units import Units

LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
# The modules whose dimensions nobody knows unless they tell.
TELLING = re.compile(r"encoder\.layers\.\d+\.(attention|mlp)")

# What each dimension of a parameter consists of.
Dimensions = list[tuple[Units, ...]]


@dataclass(frozen=True)
class Tiling:
    """Where a new model's weights come from.

    Attributes:
        old_names: of the parameter that each of the new model's takes its values from.
        maps: for each of these and each of its dimensions the old index of every new one, ``[N]``,
            int64; -1 where the initial value stays.
        unmatched: the new model's parameters that take nothing.
    """

    old_names: dict[str, str]
    maps: dict[str, list[Tensor]]
    unmatched: list[str]


def plan_tiling(
    config: ModelConfig,
    old_config: ModelConfig,
    method: InitMethod,
    depth: DepthMapping = "scaled",
) -> Tiling:
    """How a new model is filled from an old one that is larger in nothing.

    Along a dimension of n old units and N new ones, new unit i takes old unit
    ``(i - floor((N - n) / 2)) mod n`` with ``tile_center`` (ModernBERT, arXiv 2412.13663, section
    2.2.2) and ``i mod n`` with ``tile_edge``; with ``center_random`` the old ones stand in the
    middle alone, and ``copy`` demands N = n. Units are channels and whole heads; queries, keys,
    values and the halves of a gated unit are tiled each for itself.

    Raises:
        ConfigError: relative to the recipe, if there is no such tiling.
    """
    check_sizes(config, old_config, method)
    sources = layer_sources(config, old_config, depth)
    parts = pair_parts(config, old_config, sources)
    check_parts(parts, config, old_config)

    new, old = (_dimensions(build_model(c, device="meta")) for c in (config, old_config))
    old_names = _old_names(old, sources)
    unmatched = _skipped_norms(new, old_config, sources) if method != "copy" else []
    _check_names(new, [*old_names, *unmatched], parts)
    maps = {
        name: _index_maps(name, part_of(name, parts), new[name], old[old_name], method)
        for name, old_name in old_names.items()
    }
    return Tiling(old_names, maps, unmatched)


@torch.no_grad()
def tile(model: Model, old_state: Mapping[str, Tensor], tiling: Tiling) -> list[str]:
    """Give an initialised new model an old one's weights, bit for bit.

    Args:
        model: on the CPU.
        old_state: the old model's parameters.

    Returns:
        What stayed at its initial value, a sentence for each reason.
    """
    for name, old_name in tiling.old_names.items():
        parameter = model.get_parameter(name)
        parameter.copy_(_placed(old_state[old_name], parameter, tiling.maps[name]))
    return _notes(model, tiling)


def _dimensions(model: nn.Module) -> dict[str, Dimensions]:
    """What the dimensions of every parameter consist of, by its name."""
    found: dict[str, Dimensions] = {
        name: [(Units(size),) for size in parameter.shape]
        for name, parameter in model.named_parameters()
    }
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding | Decoder):
            # A row belongs to one token or position.
            for name, parameter in module.named_parameters(path):
                found[name][0] = (Units(1, parameter.shape[0]),)
        elif hasattr(module, "dimension_units"):
            for (child, dim), units in module.dimension_units().items():
                told = module.get_submodule(child).named_parameters(f"{path}.{child}")
                for name, parameter in told:
                    if dim < parameter.dim():
                        found[name][dim] = units
        elif TELLING.fullmatch(path):
            for name, parameter in module.named_parameters(path):
                found[name] = [(Units(1, size),) for size in parameter.shape]
    return found


def _old_names(names: Iterable[str], sources: Sequence[int]) -> dict[str, str]:
    """Parameters that a new model has if its parts are the old one's, each to the one it takes."""
    taken = {}
    for name in names:
        match = LAYER.fullmatch(name)
        if match is None:
            taken[name] = name
            continue
        for index, source in enumerate(sources):
            if source == int(match[1]):
                taken[f"encoder.layers.{index}.{match[2]}"] = name
    return taken


def _skipped_norms(
    names: Iterable[str], old_config: ModelConfig, sources: Sequence[int]
) -> list[str]:
    """The attention norms that a new layer has and its old one alone leaves out."""
    without = {layer.index for layer in layer_plan(old_config) if layer.skip_attention_norm}
    layers = ((name, LAYER.fullmatch(name)) for name in names)
    return [
        name
        for name, match in layers
        if match and match[2].startswith("attention_norm.") and sources[int(match[1])] in without
    ]


def _check_names(
    names: Collection[str], expected: Collection[str], parts: Mapping[str, ModelPart]
) -> None:
    """Raises: ConfigError if a parameter is in one of the models only."""
    for name in names:
        if name not in expected:
            raise part_of(name, parts).misfit(f"the checkpoint has no {name}")
    for name in expected:
        if name not in names:
            raise part_of(name, parts).misfit(f"only the checkpoint has {name}")


def _index_maps(
    name: str, part: ModelPart, new: Dimensions, old: Dimensions, method: InitMethod
) -> list[Tensor]:
    """For each dimension the old index of every new one, -1 where the initial value stays.

    Raises:
        ConfigError: if units differ, or become fewer; with ``copy`` also if they become more.
    """
    for units, old_units in zip(chain(*new), chain(*old), strict=True):
        if units.size != old_units.size:
            raise part.misfit(
                f"{name} has {units.size} entries that stay together, {old_units.size} there"
            )
        if units.num < old_units.num:
            raise part.misfit(f"{name} would be smaller")
    if method == "copy" and new != old:
        raise ConfigError(
            "init_from.method",
            f"copy needs the same shapes, and {name} is {_shape(new)}, {_shape(old)} in the "
            "checkpoint: give tile_center",
        )
    return [_index_map(units, old_units, method) for units, old_units in zip(new, old, strict=True)]


def _shape(dimensions: Dimensions) -> list[int]:
    return [sum(units.num * units.size for units in dimension) for dimension in dimensions]


def _index_map(new: tuple[Units, ...], old: tuple[Units, ...], method: InitMethod) -> Tensor:
    """Old indices along one dimension ``[N]``, int64: every group of units is tiled for itself."""
    groups = []
    start = 0
    for (num, size), (old_num, _) in zip(new, old, strict=True):
        offset = 0 if method == "tile_edge" else (num - old_num) // 2
        unit = torch.arange(num) - offset
        is_old = (unit >= 0) & (unit < old_num)
        entry = start + (unit % old_num)[:, None] * size + torch.arange(size)
        if method == "center_random":
            entry[~is_old] = -1
        groups.append(entry.flatten())
        start += old_num * size
    return torch.cat(groups)


def _placed(old: Tensor, initial: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """``old`` where the maps say so, ``initial`` elsewhere; of the latter's shape."""
    is_old = torch.ones((), dtype=torch.bool)
    for dim, index in enumerate(maps):
        old = old.index_select(dim, index.clamp(min=0))
        is_old = is_old[..., None] & (index >= 0)
    return torch.where(is_old, old, initial)


def _notes(model: nn.Module, tiling: Tiling) -> list[str]:
    notes = []
    if tiling.unmatched:
        notes.append(
            f"initial values stay in {', '.join(tiling.unmatched)}: the checkpoint's layer has no "
            "such norm"
        )
    num_values = sum(model.get_parameter(name).numel() for name in tiling.maps)
    num_old = sum(
        math.prod(int((index >= 0).sum()) for index in indices) for indices in tiling.maps.values()
    )
    if num_old < num_values:
        notes.append(
            f"initial values stay around the checkpoint's: {num_values - num_old:,} of "
            f"{num_values:,}"
        )
    return notes


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
