"""How a new model's parameters get their values.

Every scheme walks the model once. Biases start at zero and norm weights at one; a matrix gets a
normal whose spread the scheme decides from the matrix's part in the model. A module with a
parameter of its own that no scheme can know (a learned scale, say) has a method
``init_parameters()`` that fills it.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from flexbert.config.fields import COMPUTATION, key
from flexbert.config.model import InitConfig, ModelConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.norm import RMSNorm
from flexbert.nn.projection import Decoder, OutputProjection

Role = Literal["embedding", "input", "output", "decoder"]
# The half-width of the uniform that small_embedding draws from.
SMALL = 1e-4


@dataclass(frozen=True)
class Matrix:
    """What a scheme may decide by.

    Args:
        role: ``output`` matrices write into the residual stream, a ``decoder`` is an untied one.
        fan_in: inputs of one output; an embedding's size.
        layer: index of the layer that holds it, None outside of layers.
    """

    role: Role
    fan_in: int
    layer: int | None


@dataclass(frozen=True, kw_only=True)
class NormalInitConfig(InitConfig):
    """Normals, cut off or not, whose spread depends on the matrix.

    Attributes:
        small_embedding: draw token embeddings from ``U(-1e-4, 1e-4)`` instead, so that the norm
            after them lets their directions change fast (SmallInit, as RWKV has it).
    """

    small_embedding: bool = key(COMPUTATION, default=False)

    @abstractmethod
    def spread(self, matrix: Matrix, model: ModelConfig) -> float:
        """The spread before any cutting off."""

    def limit(self) -> float | None:
        """Nothing is further from zero than this many standard deviations; None: anything may."""
        return None

    def check(self, model: ModelConfig) -> None:
        if self.small_embedding and getattr(model.embedding, "norm", None) is None:
            raise ConfigError(
                "small_embedding",
                "needs embedding.norm, or the first layers see next to nothing",
            )

    @torch.no_grad()
    def apply(self, module: nn.Module, model: ModelConfig) -> None:
        """Raises: TypeError for a module with parameters that no rule covers."""
        for path, part in module.named_modules():
            parameters = dict(part.named_parameters(recurse=False))
            if hasattr(part, "init_parameters"):
                part.init_parameters()
            elif isinstance(part, nn.LayerNorm | RMSNorm):
                nn.init.ones_(parameters["weight"])
                self._zero_bias(parameters)
            elif isinstance(part, nn.Linear | nn.Embedding | Decoder):
                self._zero_bias(parameters)
                if "weight" in parameters:
                    matrix = _matrix(path, part, parameters["weight"])
                    self._fill(parameters["weight"], path, self.spread(matrix, model))
            elif parameters:
                raise TypeError(
                    f"{self.name} init has no rule for {', '.join(parameters)} of "
                    f"{type(part).__name__}: give it a method init_parameters()"
                )

    def _fill(self, weight: Tensor, path: str, std: float) -> None:
        if self.small_embedding and path.endswith("embedding.tokens"):
            nn.init.uniform_(weight, -SMALL, SMALL)
        elif (limit := self.limit()) is None:
            nn.init.normal_(weight, std=std)
        else:
            bound = limit * std
            nn.init.trunc_normal_(weight, std=std, a=-bound, b=bound)

    def _zero_bias(self, parameters: dict[str, nn.Parameter]) -> None:
        if "bias" in parameters:
            nn.init.zeros_(parameters["bias"])


def _matrix(path: str, part: nn.Module, weight: Tensor) -> Matrix:
    roles: dict[type[nn.Module], Role] = {
        nn.Embedding: "embedding",
        Decoder: "decoder",
        OutputProjection: "output",
        nn.Linear: "input",
    }
    role = next(role for kind, role in roles.items() if isinstance(part, kind))
    layer = re.search(r"\blayers\.(\d+)\.", path)
    return Matrix(role, weight.shape[1], int(layer[1]) if layer else None)


@register("normal")
@dataclass(frozen=True, kw_only=True)
class NormalConfig(NormalInitConfig):
    """One normal for every matrix (Radford et al. 2018; BERT's implementations in PyTorch).

    Attributes:
        std: standard deviation.
    """

    std: float = key(COMPUTATION, default=0.02, above=0)

    def spread(self, matrix: Matrix, model: ModelConfig) -> float:
        return self.std


@register("truncated_normal")
@dataclass(frozen=True, kw_only=True)
class TruncatedNormalConfig(NormalConfig):
    """One normal for every matrix, cut off (BERT's original, Devlin et al. 2019).

    Attributes:
        cutoff: nothing is further from zero than this many standard deviations.
    """

    cutoff: float = key(COMPUTATION, default=2.0, above=0, unit="standard deviations")

    def limit(self) -> float:
        return self.cutoff


@register("megatron")
@dataclass(frozen=True, kw_only=True)
class MegatronInitConfig(TruncatedNormalConfig):
    """Truncated normals, smaller by depth where they write into the residual stream.

    Shoeybi et al. 2019 as ModernBERT (arXiv 2412.13663) uses it: ``std`` for embeddings and input
    projections, ``std / sqrt(2 * num_layers)`` for output projections, ``fan_in ** -0.5`` for a
    decoder of its own. A tied decoder keeps the embedding's values.
    """

    def spread(self, matrix: Matrix, model: ModelConfig) -> float:
        match matrix.role:
            case "output":
                return self.std / math.sqrt(2 * model.num_layers)
            case "decoder":
                return matrix.fan_in**-0.5
            case _:
                return self.std


@register("fan_in")
@dataclass(frozen=True, kw_only=True)
class FanInConfig(NormalInitConfig):
    """``fan_in ** -0.5``, so that a matrix keeps its input's variance (LeCun et al. 1998)."""

    def spread(self, matrix: Matrix, model: ModelConfig) -> float:
        return matrix.fan_in**-0.5


@register("kaiming")
@dataclass(frozen=True, kw_only=True)
class KaimingConfig(NormalInitConfig):
    """``sqrt(2 / fan_in)``, which makes up for what a relu takes away (He et al. 2015)."""

    def spread(self, matrix: Matrix, model: ModelConfig) -> float:
        return math.sqrt(2 / matrix.fan_in)


@register("mitchell")
@dataclass(frozen=True, kw_only=True)
class MitchellConfig(NormalInitConfig):
    """``fan_in ** -0.5``, and for output projections ``(2 * fan_in * (layer + 1)) ** -0.5``.

    OLMo's (Groeneveld et al. 2024), after Mitchell Wortsman: later layers write less. Cut off at
    three standard deviations.
    """

    def spread(self, matrix: Matrix, model: ModelConfig) -> float:
        if matrix.role == "output" and matrix.layer is not None:
            return (2 * matrix.fan_in * (matrix.layer + 1)) ** -0.5
        return matrix.fan_in**-0.5

    def limit(self) -> float:
        return 3.0
