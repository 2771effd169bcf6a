"""Two models' configs side by side: which node decides a parameter, and why it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from flexbert.config.init_from import InitMethod
from flexbert.config.layer_range import LayerRange
from flexbert.config.model import AttentionConfig, ModelConfig, PositionConfig
from flexbert.config.registry import Component
from flexbert.errors import ConfigError
from flexbert.nn.attention import MultiHeadConfig


@dataclass(frozen=True)
class ModelPart:
    """A node of a new model, with that of the old one whose weights it takes.

    Args:
        path: dotted, of the new one in its recipe.
        place: where the old one is, for messages.
    """

    path: str
    new: Component | None
    old: Component | None
    place: str = "the checkpoint"

    def check_kinds(self) -> None:
        """Raises: ConfigError if it, or a node in it, is another component."""
        for key, (new, old) in _differences(self.new, self.old).items():
            if isinstance(new, Component) or isinstance(old, Component):
                raise ConfigError(
                    f"{self.path}{key}",
                    f"{self.contrast(new, old)}, and weights of one do not fit the other: give "
                    f"{_show(old)}",
                )

    def misfit(self, problem: str) -> ConfigError:
        """The error that names what in this node may be why."""
        found = _differences(self.new, self.old)
        if len(found) == 1:
            ((key, (new, old)),) = found.items()
            return ConfigError(
                f"{self.path}{key}", f"{self.contrast(new, old)}: give {_show(old)} ({problem})"
            )
        listed = [f"{key[1:]} {self.contrast(*values)}" for key, values in found.items()]
        return ConfigError(self.path, "; ".join([problem, *listed]))

    def contrast(self, new: Any, old: Any) -> str:
        """Both values of a key, as a clause without its subject."""
        return f"is {_show(new)}, and {_show(old)} in {self.place}"


def pair_parts(new: ModelConfig, old: ModelConfig, sources: Sequence[int]) -> dict[str, ModelPart]:
    """How names of a new model's parameters begin, to the part that decides them.

    Args:
        sources: the old layer for each new one.
    """
    parts = {
        "encoder.embedding.": ModelPart("model.embedding", new.embedding, old.embedding),
        "encoder.final_norm.": ModelPart("model.final_norm", new.final_norm, old.final_norm),
        "head.": ModelPart("model.head", new.head, old.head),
    }
    for index, source in enumerate(sources):
        # The block's is last: it begins the names of the others too.
        for family, own in (("attention", "attention."), ("mlp", "mlp."), ("block", "")):
            parts[f"encoder.layers.{index}.{own}"] = ModelPart(
                _path(new, index, family),
                getattr(new.layer(index), family),
                getattr(old.layer(source), family),
                f"the checkpoint's layer {source}",
            )
    return parts


def part_of(name: str, parts: Mapping[str, ModelPart]) -> ModelPart:
    """The part that decides the parameter ``name``."""
    return next(part for beginning, part in parts.items() if name.startswith(beginning))


def check_sizes(new: ModelConfig, old: ModelConfig, method: InitMethod) -> None:
    """Raises: ConfigError if the model has another vocabulary, or is narrower or less deep; with
    ``copy`` also if it is deeper."""
    if new.vocab_size != old.vocab_size:
        raise ConfigError(
            "model.vocab_size",
            f"is {new.vocab_size}, and {old.vocab_size} in the checkpoint: give {old.vocab_size}",
        )
    for key in ("hidden_size", "num_layers"):
        size, old_size = getattr(new, key), getattr(old, key)
        if size < old_size:
            raise ConfigError(
                f"model.{key}",
                f"is {size}, less than the checkpoint's {old_size}: give {old_size} or more",
            )
    if method == "copy" and new.num_layers != old.num_layers:
        raise ConfigError(
            "model.num_layers",
            f"is {new.num_layers}, and {old.num_layers} in the checkpoint: give {old.num_layers}, "
            "or init_from.method tile_center",
        )


def check_parts(parts: Mapping[str, ModelPart], new: ModelConfig, old: ModelConfig) -> None:
    """Raises: ConfigError if a part is another component, or its heads are of other sizes."""
    for part in parts.values():
        part.check_kinds()
        if isinstance(part.new, AttentionConfig) and isinstance(part.old, AttentionConfig):
            head_dim = part.new.size_of_head(new.hidden_size)
            old_head_dim = part.old.size_of_head(old.hidden_size)
            if head_dim != old_head_dim:
                raise ConfigError(
                    f"{part.path}.head_dim",
                    f"{part.contrast(head_dim, old_head_dim)}, and heads are taken whole: give "
                    f"{old_head_dim}",
                )
        if isinstance(part.new, MultiHeadConfig) and isinstance(part.old, MultiHeadConfig):
            ratio, old_ratio = part.new.queries_per_key, part.old.queries_per_key
            if ratio != old_ratio:
                raise ConfigError(
                    f"{part.path}.num_kv_heads",
                    f"makes {ratio} queries share a key, {old_ratio} do in {part.place}: give "
                    f"num_heads / {old_ratio}",
                )


def _path(model: ModelConfig, index: int, family: str) -> str:
    """Where the recipe says this of layer ``index``."""
    for key, other in model.layers.items():
        is_for_layer = index in LayerRange.parse(key).indices(model.num_layers)
        if is_for_layer and getattr(other, family) is not None:
            return f"model.layers.{key}.{family}"
    return f"model.{family}"


def _differences(new: Any, old: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The keys, each after a dot, by which two nodes may have different parameters."""
    # Rotations have no parameters; nor do real numbers and names decide any.
    if isinstance(new or old, PositionConfig) or isinstance(new, float | str) or new == old:
        return {}
    if type(new) is type(old) and is_dataclass(new):
        found: dict[str, tuple[Any, Any]] = {}
        for field in fields(new):
            values = getattr(new, field.name), getattr(old, field.name)
            found |= _differences(*values, f"{path}.{field.name}")
        return found
    return {path: (new, old)}


def _show(value: Any) -> str:
    """A value as a recipe writes it, a node by its name."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value.name if isinstance(value, Component) else str(value)
