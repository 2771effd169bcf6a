"""``flexbert average``: the mean of checkpoints' weights, or the mean that training itself kept.

What lies in one basin of the loss may be averaged: checkpoints of one run (Izmailov et al. 2018),
or of runs that began from the same weights (Wortsman et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flexbert.checkpoint.best import DEFAULT_METRIC, best_and_last, names_text
from flexbert.checkpoint.checkpoint import Averaged, Checkpoint, Weights
from flexbert.checkpoint.checkpoint_file import (
    CheckpointError,
    checkpoint_file,
    read_checkpoint,
    write_checkpoint,
)
from flexbert.checkpoint.weights import checked_weights, model_config
from flexbert.config.fields import FUNCTION
from flexbert.config.keys import leaves
from flexbert.config.model import ModelConfig
from flexbert.config.tree import changed_keys
from flexbert.errors import UserError


def average_checkpoints(
    sources: Sequence[Path], out: Path, weights: Sequence[float] | None = None
) -> list[str]:
    """Write the mean of checkpoints of one model as a checkpoint.

    It has the recipe, the tokenizer and the tensors' dtypes of the last one.

    Args:
        sources: checkpoints, or runs' folders for their newest.
        out: a file that is not there yet.
        weights: one for each source, not negative; divided by their sum. All equal if None.

    Returns:
        What to tell the user.

    Raises:
        UserError: if there is anything in the way, and then nothing is written.
    """
    _refuse_existing(out)
    weights = [1.0] * len(sources) if weights is None else weights
    _check_weights(weights, len(sources))
    paths = [checkpoint_file(source) for source in sources]
    return [
        *(
            f"{path}: weight {weight / sum(weights):.4g}"
            for path, weight in zip(paths, weights, strict=True)
        ),
        _write_mean(paths, weights, out),
    ]


def average_best(
    run_folder: Path,
    out: Path,
    count: int,
    metric: str = DEFAULT_METRIC,
    stage: str | None = None,
) -> list[str]:
    """As :func:`average_checkpoints`, uniformly, of those that :func:`best_and_last` chooses."""
    _refuse_existing(out)
    chosen = best_and_last(run_folder, count, metric, stage)
    roles = ["among the best"] * count + ["the last"]
    passed_over = names_text(chosen.passed_over)
    return [
        *(
            f"{path}: {metric} {'not known' if math.isnan(value) else f'{value:.4f}'}, {role}"
            for (path, value), role in zip(chosen.values.items(), roles, strict=True)
        ),
        *([f"passed over, {metric} is not known of them: {passed_over}"] if passed_over else []),
        _write_mean(list(chosen.values), [1.0] * len(chosen.values), out),
    ]


def write_moving_average(source: Path, out: Path) -> list[str]:
    """Write the moving average of its weights that a checkpoint holds, as a checkpoint.

    Args:
        source: a checkpoint, or a run's folder for its newest.
        out: a file that is not there yet.

    Returns:
        What to tell the user.

    Raises:
        UserError: if there is anything in the way, and then nothing is written.
    """
    _refuse_existing(out)
    path = checkpoint_file(source)
    checkpoint = read_checkpoint(path)
    average = checkpoint.training.moving_average if checkpoint.training is not None else None
    if average is None:
        raise CheckpointError(
            f"{path}: holds no moving average; to train with one: moving_average in the recipe"
        )
    checked_weights(checkpoint, model_config(checkpoint), average)
    _write(out, checkpoint, average, Averaged(checkpoints=(str(path),)))
    return [f"{out}: the moving average in {path}"]


def _write_mean(paths: Sequence[Path], weights: Sequence[float], out: Path) -> str:
    mean = _WeightedMean()
    for path, weight in zip(paths, weights, strict=True):
        mean.add(path, weight)
    shares = tuple(weight / sum(weights) for weight in weights)
    made_of = Averaged(checkpoints=tuple(str(path) for path in paths), shares=shares)
    _write(out, mean.last, mean.weights(), made_of)
    return f"{out}: the mean of {len(paths)}"


def _write(out: Path, like: Checkpoint, weights: Weights, made_of: Averaged) -> None:
    """Write a checkpoint with the recipe and the tokenizer of ``like``."""
    averaged = Checkpoint(
        recipe=like.recipe, tokenizer=like.tokenizer, model=weights, averaged=made_of
    )
    write_checkpoint(out, averaged)


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """What checkpoints must have in common to be averaged.

    Attributes:
        function: the keys of the model's config that decide what its weights compute.
    """

    path: Path
    function: Mapping[str, Any]
    tokenizer: Mapping[str, str]


class _WeightedMean:
    """A weighted mean of checkpoints' weights, of which one at a time is in memory.

    Sums are in float64, so that only the mean is rounded to a tensor's own dtype.

    Attributes:
        last: the checkpoint added last, without its weights.
    """

    def __init__(self) -> None:
        self.last = Checkpoint(recipe={}, tokenizer={}, model={})
        self._first: _Identity | None = None
        self._sums: dict[str, Tensor] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self._total_weight = 0.0

    def add(self, path: Path, weight: float) -> None:
        """Raises: CheckpointError if it cannot be read, or is not of the first one's model."""
        checkpoint = read_checkpoint(path)
        config = model_config(checkpoint)
        weights = checked_weights(checkpoint, config)
        identity = _Identity(path=path, function=_function(config), tokenizer=checkpoint.tokenizer)
        self._first = self._first or identity
        _require_same(self._first, identity)
        for name, value in weights.items():
            term = value.double() * weight
            self._sums[name] = self._sums[name].add_(term) if name in self._sums else term
        self._dtypes = {name: value.dtype for name, value in weights.items()}
        self._total_weight += weight
        self.last = replace(checkpoint, model={}, training=None)

    def weights(self) -> dict[str, Tensor]:
        """The mean, in the dtypes of the checkpoint added last."""
        return {
            name: (total / self._total_weight).to(self._dtypes[name])
            for name, total in self._sums.items()
        }


def _function(config: ModelConfig) -> dict[str, Any]:
    """What a model with given weights computes, as keys of its config."""
    return {leaf.path: leaf.value for leaf in leaves(config, "model") if leaf.role is FUNCTION}


def _require_same(first: _Identity, other: _Identity) -> None:
    differences = [
        f"{key} ({there} there, {here} here)"
        for key, (there, here) in sorted(changed_keys(first.function, other.function).items())
    ]
    if differences:
        raise CheckpointError(
            f"{other.path}: not the model of {first.path}: {', '.join(differences)}"
        )
    if other.tokenizer != first.tokenizer:
        raise CheckpointError(f"{other.path}: not the tokenizer of {first.path}")


def _check_weights(weights: Sequence[float], count: int) -> None:
    if len(weights) != count:
        raise UserError(f"--weights: {len(weights)} for {count} checkpoints")
    # Neither holds for nan.
    if not (all(weight >= 0 for weight in weights) and 0 < sum(weights) < math.inf):
        listed = " ".join(f"{weight:g}" for weight in weights)
        raise UserError(f"--weights: expected numbers from 0 on, not all 0, got {listed}")


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise UserError(f"{out}: is there already; give another name, or remove it")
