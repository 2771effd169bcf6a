"""Curves of a sweep's runs, and the mean of each point's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flexbert.config.by_metric import is_own_metric
from flexbert.errors import UserError
from flexbert.metrics_file import Record
from flexbert.report.axes import AxisName, shared_axis
from flexbert.report.curves import smoothed, thinned
from flexbert.report.recorded_run import RecordedRun
from flexbert.sweeps.run_flops import run_flops

# With fewer evaluations than this a curve is none, and the training loss is drawn.
_FEWEST_EVALUATIONS = 4
_MEAN_POINTS = 400
_NOISY_POINTS = 120


@dataclass(frozen=True, kw_only=True)
class DrawnRun:
    """
    Attributes:
        counts: whether it is finished and its measure a finite number, so that it is in the mean.
    """

    label: str
    seed: int
    counts: bool
    recorded: RecordedRun


@dataclass(frozen=True, kw_only=True)
class RunCurve:
    """
    Attributes:
        tokens, x, y: float64, the same length: of each value the run's tokens until then and its
            place on the axis; ``y`` is finite but where the run diverged for a while.
    """

    run: DrawnRun
    tokens: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def is_finite(self) -> np.ndarray:
        return np.isfinite(self.y)


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """The curves of all runs over one axis.

    Attributes:
        is_flops: whether it counts floating-point operations, whose numbers are powers of ten.
        is_time: whether it has a unit of time.
    """

    title: str
    is_flops: bool
    is_time: bool
    curves: tuple[RunCurve, ...]


def curve_number(runs: Sequence[DrawnRun], measures: Sequence[str]) -> tuple[str, str]:
    """The event and the name of what is drawn: a measure of evaluations, or the training loss."""
    # Those that were stopped early decide nothing, unless there are no others.
    counted = [run for run in runs if run.counts] or runs
    for name in (*filter(is_own_metric, measures), "eval_loss"):
        counts = [
            sum(name in record.numbers for record in run.recorded.records if record.event == "eval")
            for run in counted
        ]
        if np.median(counts) >= _FEWEST_EVALUATIONS:
            return "eval", name
    return "train", "loss"


def curve_panels(runs: Sequence[DrawnRun], event: str, key: str) -> list[CurvePanel]:
    """The curves by tokens, FLOPs and time, without an axis that not all runs have recorded."""
    found = []
    for name in ("tokens", "flops", "time"):
        try:
            panel = _panel(runs, name, event, key)
        except UserError:
            continue
        if any(len(curve.x) for curve in panel.curves):
            found.append(panel)
    return found


def _panel(runs: Sequence[DrawnRun], name: str, event: str, key: str) -> CurvePanel:
    recorded = [run.recorded for run in runs]
    if name == "flops":
        places: list[Callable[[Record], float]] = [run_flops(run) for run in recorded]
        title, is_time = "FLOPs", False
    else:
        axis: AxisName = "time" if name == "time" else "tokens"
        shared = shared_axis(recorded, axis)
        places = [place.at for place in shared.places]
        title, is_time = shared.title, shared.is_time
    return CurvePanel(
        title=title,
        is_flops=name == "flops",
        is_time=is_time,
        curves=tuple(
            _curve(run, place, event, key) for run, place in zip(runs, places, strict=True)
        ),
    )


def _curve(run: DrawnRun, at: Callable[[Record], float], event: str, key: str) -> RunCurve:
    records = [
        record for record in run.recorded.records if record.event == event and key in record.numbers
    ]
    tokens = np.array([record.tokens for record in records], np.float64)
    x = np.array([at(record) for record in records], np.float64)
    y = np.array([record.numbers[key] for record in records], np.float64)
    if event == "train" and len(y) >= _NOISY_POINTS:
        # Runs differ by less than their noise.
        y = smoothed(y, len(y) // 25)
    # What is left of a long curve is by its values alone.
    (tokens, _), (x, y) = thinned(tokens, y), thinned(x, y)
    return RunCurve(run=run, tokens=tokens, x=x, y=y)


def mean_curve(curves: Sequence[RunCurve]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of several curves: of their places and of their values, at the same tokens.

    It goes as far as all of them do; between its points a curve is straight. Runs that are as long
    as each other have a mean over time too, however fast each was.

    Returns:
        x and y, of no length where the curves have no tokens in common.
    """
    parts = [np.stack([curve.tokens, curve.x, curve.y])[:, curve.is_finite] for curve in curves]
    if not parts or any(not len(tokens) for tokens, _, _ in parts):
        return np.zeros(0), np.zeros(0)
    begin = max(tokens[0] for tokens, _, _ in parts)
    end = min(tokens[-1] for tokens, _, _ in parts)
    grid = np.unique(np.concatenate([tokens for tokens, _, _ in parts]))
    grid = grid[(grid >= begin) & (grid <= end)]
    if len(grid) > _MEAN_POINTS:
        grid = np.linspace(begin, end, _MEAN_POINTS)
    x = np.mean([np.interp(grid, tokens, places) for tokens, places, _ in parts], axis=0)
    y = np.mean([np.interp(grid, tokens, values) for tokens, _, values in parts], axis=0)
    return x, y
