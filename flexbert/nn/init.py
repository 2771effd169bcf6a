"""How a new model's parameters get their values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flexbert.config.model import InitConfig, ModelConfig
from flexbert.config.registry import register
from flexbert.nn.checks import check_positive
from flexbert.nn.projection import Decoder, OutputProjection


@register("megatron")
@dataclass(frozen=True, kw_only=True)
class MegatronInitConfig(InitConfig):
    """Truncated normals, smaller by depth where they write into the residual stream.

    Shoeybi et al. 2019 as ModernBERT (arXiv 2412.13663) uses it: ``std`` for embeddings and input
    projections, ``std / sqrt(2 * num_layers)`` for output projections, ``hidden_size ** -0.5`` for
    a decoder of its own; norm weights one, biases zero. A tied decoder keeps the embedding's
    values.

    Args:
        std: of the normal before it is truncated.
        cutoff: nothing is further from zero than this many standard deviations.
    """

    std: float = 0.02
    cutoff: float = 2.0

    def __post_init__(self) -> None:
        check_positive("std", self.std)
        check_positive("cutoff", self.cutoff)

    @torch.no_grad()
    def apply(self, module: nn.Module, model: ModelConfig) -> None:
        """Raises: TypeError for a module with parameters that this scheme does not know."""
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                self._fill(part, name, parameter, model)

    def _fill(self, part: nn.Module, name: str, parameter: Tensor, model: ModelConfig) -> None:
        match part:
            case nn.Linear() | Decoder() | nn.LayerNorm() if name == "bias":
                nn.init.zeros_(parameter)
            case nn.LayerNorm():
                nn.init.ones_(parameter)
            case OutputProjection():
                self._fill_normal(parameter, self.std / (2 * model.num_layers) ** 0.5)
            case Decoder():
                self._fill_normal(parameter, model.hidden_size**-0.5)
            case nn.Linear() | nn.Embedding():
                self._fill_normal(parameter, self.std)
            case _:
                raise TypeError(f"megatron init has no rule for {name} of {type(part).__name__}")

    def _fill_normal(self, parameter: Tensor, std: float) -> None:
        nn.init.trunc_normal_(parameter, std=std, a=-self.cutoff * std, b=self.cutoff * std)
