"""Which parameters are decayed."""

from __future__ import annotations

from typing import Any

from torch import nn

DECAY = "decay"


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups: matrices, which weight decay pulls, and norms and biases, which it leaves alone.

    Every parameter with fewer than two dimensions is a norm's or a bias. Each group is marked by
    ``decay``, so that hyperparameters can be set on it anew at every update.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], DECAY: True},
        {"params": [p for p in trainable if p.ndim < 2], DECAY: False},
    ]
    return [group for group in groups if group["params"]]
