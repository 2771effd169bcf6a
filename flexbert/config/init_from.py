"""From whose weights a new model starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flexbert.config.fields import COMPUTATION, Node, key
from flexbert.errors import ConfigError

InitMethod = Literal["copy", "tile_center", "tile_edge", "center_random"]
DepthMapping = Literal["scaled", "same_kind"]
Architecture = Literal["recipe", "checkpoint"]
Vocabulary = Literal["same", "by_token"]


@dataclass(frozen=True, kw_only=True)
class InitFromConfig(Node):
    """Whose weights a new model starts from.

    Attributes:
        checkpoint: the trained model: a checkpoint, a run's folder, a Hugging Face folder or a name
            on the Hub; null while a recipe is planned without one.
        architecture: where the recipe's model is from. ``checkpoint`` takes it from the checkpoint,
            and ``data.max_length`` where the recipe does not say it; the recipe's own ``model``
            says only what is to differ.
        changes: keys of the model that may differ from the checkpoint's though they decide what is
            computed, with all that is beneath them. Those given on the command line may.
        vocabulary: ``same`` demands that every id of the corpus is the checkpoint's token of that
            id. ``by_token`` gives each token the checkpoint's row for it, wherever that is, and a
            new token the mean of those that it is cut into there.
        method: how a smaller model's weights fill a larger one. ``copy`` demands the same shapes
            and depth. ``tile_center`` puts the old matrix in the middle and repeats it to all sides
            (ModernBERT, arXiv 2412.13663, section 2.2.2), ``tile_edge`` repeats it from the first
            entry on, ``center_random`` puts it in the middle and leaves the rest as drawn.
        depth: which old layer a new one starts from. ``scaled`` takes layer
            ``round(i * old / new)`` (Gopher, Rae et al. 2021), as ModernBERT does; ``same_kind``
            the nearest to it of the same attention kind.
    """

    checkpoint: Path | None = key(COMPUTATION, run_time=True)
    architecture: Architecture = key(COMPUTATION, default="recipe")
    changes: tuple[str, ...] = key(COMPUTATION, default=())
    vocabulary: Vocabulary = key(COMPUTATION, default="same")
    method: InitMethod = key(COMPUTATION, default="copy")
    depth: DepthMapping = key(COMPUTATION, default="scaled")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "copy" and self.depth != "scaled":
            raise ConfigError(
                "depth", "would do nothing: method copy takes each layer from the same one"
            )
