"""Before they train together, processes compare what they would train.

Each digest is compared first; only where one differs, the values behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
import xxhash
from torch import nn

from flexbert import __version__
from flexbert.config.tree import flatten
from flexbert.doctor import package_version
from flexbert.errors import UserError
from flexbert.train.processes.peers import Peers

# What each machine may have its own of: where its files lie, and how it reads them.
_OWN = (
    "runs_folder",
    "path",
    "remote",
    "tokenizer",
    "cache",
    "cache_limit",
    "num_workers",
    "verify_hashes",
    "init_from",
    "start_from",
    "wandb",
    # By their versions: see flexbert.train.plugin_agreement.
    "plugins",
)

_COMPUTING = (
    "torch",
    "mosaicml",
    "mosaicml-streaming",
    "torch-optimi",
    "numpy",
    "numba",
    "triton",
    "flash-attn",
    "flash-attn-3",
)


def require_same(peers: Peers, what: str, values: Callable[[], Mapping[str, Any]]) -> None:
    """Every process has the same values.

    Args:
        what: they are, for messages.
        values: by name; containers, strings and numbers. Not called where there is one process.

    Raises:
        UserError: on every process, naming what differs, on which ranks, with the values.
    """
    if peers.rank.world_size == 1:
        return
    plain = {
        name: json.dumps(value, sort_keys=True, default=str) for name, value in values().items()
    }
    digest = xxhash.xxh3_128_hexdigest(json.dumps(plain, sort_keys=True))
    if len(set(peers.gather(f"comparing {what}", digest))) == 1:
        return
    everyone = peers.gather(f"comparing {what}", plain)
    differing = [
        name
        for name in sorted({name for one in everyone for name in one})
        if len({one.get(name) for one in everyone}) > 1
    ]
    shown = "; ".join(_difference(name, [one.get(name) for one in everyone]) for name in differing)
    raise UserError(f"the processes do not have the same {what}: {shown}")


def recipe_values(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What every process must have the same of a resolved recipe: all but a machine's own."""
    flat = flatten(resolved)
    return {key: value for key, value in flat.items() if not set(_OWN) & set(key.split("."))}


def version_values() -> dict[str, Any]:
    """What is installed and decides what is computed."""
    return {"flexbert": __version__, **{name: package_version(name) for name in _COMPUTING}}


def weight_values(model: nn.Module) -> dict[str, int]:
    """A number for each parameter that tells any other bit in it.

    Sums of the bits as integers, which come out the same in any order, on any device.
    """
    parameters = dict(model.named_parameters())
    sums = [
        parameter.detach().contiguous().view(_INTEGERS[parameter.element_size()]).sum()
        for parameter in parameters.values()
    ]
    # Read off the device at once.
    return dict(zip(parameters, torch.stack(sums).tolist(), strict=True))


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _difference(name: str, values: list[str | None]) -> str:
    by_value: dict[str | None, list[int]] = {}
    for rank, value in enumerate(values):
        by_value.setdefault(value, []).append(rank)
    parts = [
        f"{'nothing' if value is None else value} on rank{'s' * (len(ranks) > 1)} {_ranks(ranks)}"
        for value, ranks in by_value.items()
    ]
    return f"{name} is {', '.join(parts)}"


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:4]))
    return shown if len(ranks) <= 4 else f"{shown} and {len(ranks) - 4} more"
