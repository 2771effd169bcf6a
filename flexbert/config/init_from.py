"""From whose weights a new model starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flexbert.config.fields import COMPUTATION, Node, key
from flexbert.errors import ConfigError

InitMethod = Literal["copy", "tile_center", "tile_edge", "center_random"]
DepthMapping = Literal["scaled", "same_kind"]


@dataclass(frozen=True, kw_only=True)
class InitFromConfig(Node):
    """Whose weights a new model starts from.

    Attributes:
        checkpoint: the trained model: a checkpoint, a run's folder or a Hugging Face folder; null
            while a recipe is planned without one.
        method: how a smaller model's weights fill a larger one. ``copy`` demands the same shapes
            and depth. ``tile_center`` puts the old matrix in the middle and repeats it to all sides
            (ModernBERT, arXiv 2412.13663, section 2.2.2), ``tile_edge`` repeats it from the first
            entry on, ``center_random`` puts it in the middle and leaves the rest as drawn.
        depth: which old layer a new one starts from. ``scaled`` takes layer
            ``round(i * old / new)`` (Gopher, Rae et al. 2021), as ModernBERT does; ``same_kind``
            the nearest to it of the same attention kind.
    """

    checkpoint: Path | None = key(COMPUTATION, run_time=True)
    method: InitMethod = key(COMPUTATION, default="copy")
    depth: DepthMapping = key(COMPUTATION, default="scaled")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "copy" and self.depth != "scaled":
            raise ConfigError(
                "depth", "would do nothing: method copy takes each layer from the same one"
            )
