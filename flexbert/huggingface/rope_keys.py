"""Rotary embeddings of one base, and how they are scaled, in the keys of a ``config.json``.

For tables, ``rope_theta`` and ``rope_scaling`` are two keys, as older folders have them;
transformers 5 writes both as ``rope_parameters``. What its ``dynamic`` scaling calls the original
length is there the model's ``max_position_embeddings``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flexbert.errors import did_you_mean
from flexbert.huggingface.config_keys import Leaves, TheirKey

THETA, SCALING = "attention.rope.theta.global", "attention.rope.scaling"
LENGTH, ORIGINAL = "max_position_embeddings", "original_max_position_embeddings"
# Our scaling to theirs: its rope_type, and the key of each of our fields.
SCALINGS: dict[str, tuple[str, dict[str, str]]] = {
    "linear": ("linear", {"factor": "factor"}),
    "dynamic_ntk": ("dynamic", {"factor": "factor", "original_length": ORIGINAL}),
    "yarn": (
        "yarn",
        {
            "factor": "factor",
            "original_length": ORIGINAL,
            "beta_fast": "beta_fast",
            "beta_slow": "beta_slow",
        },
    ),
}
OURS = {kind: name for name, (kind, _) in SCALINGS.items()}
# A length or a factor beyond it is none, and some arithmetic would not survive it.
LARGEST_NUMBER = 2**40


def _to_theirs(scaling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    name = scaling["name"]
    if name not in SCALINGS:
        raise ValueError(f"transformers has no such scaling; it has {', '.join(SCALINGS)}")
    kind, keys = SCALINGS[name]
    return {"rope_type": kind, **{key: scaling[field] for field, key in keys.items()}}


def _to_ours(scaling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    kind = scaling["rope_type"]
    if not isinstance(kind, str) or kind not in OURS:
        raise ValueError(f"rope_type {kind!r}; {did_you_mean(str(kind), ['default', *OURS])}")
    given = {key: value for key, value in scaling.items() if value is not None}
    del given["rope_type"]
    if kind == "yarn":
        _check_yarn(given)
    name = OURS[kind]
    keys = SCALINGS[name][1]
    if unknown := sorted(given.keys() - keys.values()):
        raise ValueError(f"{unknown[0]} {given[unknown[0]]!r} of rope_type {kind} is not known")
    for key, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= LARGEST_NUMBER:
            raise ValueError(f"{key}: {value!r} is no sensible value")
    if "factor" not in given:
        raise ValueError(f"rope_type {kind} without a factor")
    return {"name": name, **{field: given[key] for field, key in keys.items() if key in given}}


def _check_yarn(given: dict[str, Any]) -> None:
    """Take away, in place, what has the only value that we know."""
    factor, attention = given.get("factor"), given.pop("attention_factor", None)
    if attention is not None:
        usual = 0.1 * math.log(factor) + 1 if isinstance(factor, int | float) and factor > 0 else 0
        if not isinstance(attention, int | float) or not math.isclose(attention, usual):
            raise ValueError(f"attention_factor {attention!r}: only 0.1 ln(factor) + 1 is known")
    if given.pop("truncate", True) is not True:
        raise ValueError("truncate: only true is known")


KEYS = (
    TheirKey("rope_theta", (THETA,)),
    TheirKey("rope_scaling", (SCALING,), _to_theirs, _to_ours),
)
# Every layer is a global one.
FIXED: dict[str, Any] = {
    "attention.windows": "global",
    "attention.alibi": False,
    "attention.qk_norm": None,
    "attention.rope.name": "rope",
    "attention.rope.fraction": 1.0,
    "attention.rope.interleaved": False,
}


def older_defaults(theta: float) -> dict[str, Any]:
    """For :attr:`Family.older_defaults`."""
    return {"rope_theta": theta, "rope_scaling": None, "rope_parameters": None}


def gather(leaves: Leaves) -> None:
    """Make one leaf of a scaling, in place, as a key is one value."""
    if leaves.get("attention.rope.theta.local", 0) is None:
        del leaves["attention.rope.theta.local"]
    prefix = f"{SCALING}."
    inside = {path.removeprefix(prefix): path for path in leaves if path.startswith(prefix)}
    if inside:
        leaves[SCALING] = {field: leaves.pop(path) for field, path in inside.items()}


def write(config: dict[str, Any]) -> None:
    """Put what the tables made, in place, as transformers 5 has it."""
    scaling = dict(config.pop("rope_scaling") or {"rope_type": "default"})
    if scaling["rope_type"] == "dynamic":
        config[LENGTH] = scaling.pop(ORIGINAL)
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), **scaling}


def read(config: dict[str, Any], given: frozenset[str]) -> None:
    """Put what a folder says, in place, as the tables have it.

    Raises:
        ValueError: if keys contradict each other, or only a part of a head is turned.
    """
    found = [config[key] for key in ("rope_scaling", "rope_parameters") if config.get(key)]
    if not all(isinstance(entry, dict) for entry in found):
        raise ValueError("rope_parameters: expected a mapping")
    if config.get(ORIGINAL) is not None:
        raise ValueError(f"{ORIGINAL}: known in rope_parameters alone")
    if len(found) > 1 and found[0] != found[1]:
        raise ValueError("rope_scaling and rope_parameters differ")
    entry = dict(found[0]) if found else {}
    kinds = [entry.pop(key) for key in ("rope_type", "type") if entry.get(key) is not None]
    if len(set(map(str, kinds))) > 1:
        raise ValueError(f"rope_parameters: rope_type {kinds[0]!r} and type {kinds[1]!r} differ")
    theta = entry.pop("rope_theta", None)
    if theta is not None:
        if "rope_theta" in given and config["rope_theta"] not in (None, theta):
            raise ValueError(f"rope_theta {config['rope_theta']}, and {theta} in rope_parameters")
        config["rope_theta"] = theta
    for part in (config.get("partial_rotary_factor"), entry.pop("partial_rotary_factor", None)):
        if part not in (None, 1):
            raise ValueError(f"partial_rotary_factor {part!r}: only 1.0 is known here")
    kind = kinds[0] if kinds else "default"
    if kind == "default":
        if entry:
            raise ValueError(f"rope_parameters: unknown key in {sorted(map(str, entry))}")
        config["rope_scaling"] = None
        return
    if kind == "dynamic" and ORIGINAL in entry:
        raise ValueError(f"{ORIGINAL}: transformers takes {LENGTH} for rope_type dynamic")
    if kind in ("dynamic", "yarn"):
        entry.setdefault(ORIGINAL, config[LENGTH])
    config["rope_scaling"] = {"rope_type": kind, **entry}


def without_usual_head_dim(config: dict[str, Any]) -> None:
    """Leave out, in place, a head's size that hidden size and heads give anyway."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    has_usual = isinstance(hidden, int) and isinstance(heads, int) and heads > 0
    if has_usual and config["head_dim"] == hidden // heads:
        config["head_dim"] = None
