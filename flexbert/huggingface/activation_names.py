"""Activation functions by transformers' names (its ``ACT2FN``) and by ours."""

from __future__ import annotations

from flexbert.errors import did_you_mean

# What an exported config says. Our elu, selu and softplus have no name there.
THEIRS = {
    "gelu": "gelu",
    "gelu_quick": "quick_gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "identity": "linear",
    "leaky_relu": "leaky_relu",
    "mish": "mish",
    "relu": "relu",
    "relu_squared": "relu2",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
}
# What an imported config may say: these, and other names of the same functions.
OURS = {theirs: ours for ours, theirs in THEIRS.items()} | {
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "swish": "silu",
}


def to_theirs(ours: str | None) -> str:
    """Raises: ValueError for a function that transformers has no name for."""
    if ours is None:
        return THEIRS["identity"]
    if ours not in THEIRS:
        raise ValueError("transformers has no name for it")
    return THEIRS[ours]


def to_ours(theirs: object) -> str:
    """Raises: ValueError for a name that we have no function for."""
    if not isinstance(theirs, str) or theirs not in OURS:
        raise ValueError(f"no activation {theirs!r}; {did_you_mean(str(theirs), OURS)}")
    return OURS[theirs]


# How a table of keys writes an activation and reads it back.
BOTH_WAYS = (to_theirs, to_ours)
