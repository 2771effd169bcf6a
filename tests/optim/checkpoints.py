"""A checkpoint as Composer makes and loads one, or as torch does."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from flexbert.checkpoint.checkpoint import OptimizerState
from flexbert.checkpoint.optimizer_state import load_optimizer_state, optimizer_state

Checkpoint = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """Of asking an optimizer for its state, and of giving it back."""

    ask: Callable[[nn.Module, Optimizer], Checkpoint]
    give: Callable[[nn.Module, Optimizer, Checkpoint], None]


def _of_composer(full: bool) -> Way:
    options = StateDictOptions(full_state_dict=full)
    return Way(
        functools.partial(get_optimizer_state_dict, options=options),
        functools.partial(set_optimizer_state_dict, options=options),
    )


# Composer's depends on how it is told to shard.
WAYS = {
    "composer": _of_composer(full=False),
    "composer, full": _of_composer(full=True),
    # As a run saves and restores.
    "by name": Way(
        lambda model, optimizer: vars(optimizer_state("any", model, optimizer)),
        lambda model, optimizer, state: load_optimizer_state(
            OptimizerState(**state), model, optimizer
        ),
    ),
    "torch": Way(
        lambda model, optimizer: optimizer.state_dict(),
        lambda model, optimizer, state: optimizer.load_state_dict(state),
    ),
}


def save(model: nn.Module, optimizer: Optimizer, way: str = "composer") -> Checkpoint:
    """What is read from a file after it was written there."""
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": WAYS[way].ask(model, optimizer)}, file)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def load(
    checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer, way: str = "composer"
) -> None:
    model.load_state_dict(checkpoint["model"])
    WAYS[way].give(model, optimizer, checkpoint["optimizer"])
