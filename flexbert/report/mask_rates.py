"""Which share of the tokens a loss is over: losses at two rates do not compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flexbert.report.recorded_run import RecordedRun


def training_masks(run: RecordedRun) -> str:
    """How a label of training losses ends: ``, 30% masked``."""
    rates = [r.numbers["mask_rate"] for r in run.records if "mask_rate" in r.numbers]
    return _masked(rates)


def evaluation_masks(run: RecordedRun) -> str:
    """How a label of validation losses ends; from the first stage's rate to the last's."""
    stages = run.recipe.get("stages")
    recipes = [run.recipe, *(stages.values() if isinstance(stages, dict) else ())]
    return _masked([rate for recipe in recipes for rate in _evaluation_rate(recipe)])


def _evaluation_rate(recipe: Any) -> Iterator[float]:
    evaluation = recipe.get("evaluation") if isinstance(recipe, Mapping) else None
    rate = evaluation.get("mask_rate") if isinstance(evaluation, Mapping) else None
    if isinstance(rate, int | float) and math.isfinite(rate):
        yield float(rate)


def _masked(rates: Sequence[float]) -> str:
    known = [rate for rate in rates if math.isfinite(rate)]
    if not known:
        return ""
    shares = dict.fromkeys(f"{100 * rate:.3g}%" for rate in (known[0], known[-1]))
    return f", {' to '.join(shares)} masked"
