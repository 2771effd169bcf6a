"""A model from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from flexbert.config.model import MASKED_LM, ModelConfig
from flexbert.nn.classification import Classifier
from flexbert.nn.masked_lm import MaskedLM

Model = MaskedLM | Classifier
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """How many parameters a model has, by part.

    Attributes:
        total: a tied decoder matrix counted once, as embedding.
        embedding: all that tokens are embedded by.
        encoder: layers and final norm: ``attention``, ``mlp`` and ``norms`` together.
        attention: of the layers.
        mlp: of the layers.
        norms: the rest of the encoder.
        head: what comes after the encoder.
    """

    total: int
    embedding: int
    encoder: int
    attention: int
    mlp: int
    norms: int
    head: int


def new_model(config: ModelConfig) -> Model:
    """The model that the config's head asks for, its parameters not filled yet."""
    return MaskedLM(config) if config.head.task == MASKED_LM else Classifier(config)


def build_model(config: ModelConfig, *, device: torch.device | str = "cpu") -> Model:
    """A new, initialised model.

    Its weights are drawn on the CPU from the global seed, so they are the same for any device and
    any number of processes. On the ``meta`` device nothing is drawn or allocated.
    """
    with torch.device("meta"):
        model = new_model(config)
    if torch.device(device).type == "meta":
        return model
    return fill(model, config).to(device)


def meta_masked_lm(config: ModelConfig) -> MaskedLM:
    """What a recipe trains, on the meta device: shapes without memory."""
    model = build_model(config, device="meta")
    assert isinstance(model, MaskedLM), "what a recipe trains"
    return model


def fill(model: M, config: ModelConfig) -> M:
    """Give a model from the meta device memory on the CPU, and its parameters their values."""
    model.to_empty(device="cpu")
    config.init.apply(model, config)
    return model


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Count the parameters of a model without allocating them."""
    model = build_model(config, device="meta")
    embedding, encoder = _count(model.encoder.embedding), _count(model.encoder)
    # By name: a block of one's own may have other parts.
    in_layers = {name: p.numel() for name, p in model.encoder.layers.named_parameters()}
    attention, mlp = (
        sum(size for name, size in in_layers.items() if name.split(".")[1] == part)
        for part in ("attention", "mlp")
    )
    return ParameterCounts(
        total=_count(model),
        embedding=embedding,
        encoder=encoder - embedding,
        attention=attention,
        mlp=mlp,
        norms=encoder - embedding - attention - mlp,
        head=_count(model) - encoder,
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
