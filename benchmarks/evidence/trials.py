"""Trains what a claim needs, and holds it against what came of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence.averages import losses_of_averages
from benchmarks.evidence.claims import LOSS, Claim
from benchmarks.evidence.verdicts import BySeed, Judged, judged
from flexbert.errors import UserError
from flexbert.sweeps.launches import Launched
from flexbert.sweeps.outcomes import RunOutcome, read_outcome
from flexbert.sweeps.running import check_begun, train_runs
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from flexbert.train.processes.run_errors import DONE

ABLATIONS = Path("yamls") / "ablations"
AVERAGES = "averages"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A claim and its comparisons.

    Attributes:
        runs: that were trained for it.
        tokens: that the longest was trained on.
    """

    claim: Claim
    judged: tuple[Judged, ...]
    runs: int
    tokens: int


def tried(claim: Claim, folder: Path, at_once: int, tell: Callable[[Launched], None]) -> Trial:
    """Train what is missing of a claim's sweeps in ``folder``, one folder each, and compare.

    Raises:
        UserError: if a run fails, or training is stopped.
    """
    for name in claim.before:
        _train(name, folder, at_once, tell)
    runs = _train(claim.sweep, folder, at_once, tell)
    measures = sorted({comparison.measure for comparison in claim.comparisons})
    if claim.sweep == AVERAGES:
        outcomes = [read_outcome(run, ()) for run in runs]
        values = _of_averages(runs)
    else:
        outcomes = [read_outcome(run, measures) for run in runs]
        values = _of_points(outcomes)
    return Trial(
        claim=claim,
        judged=tuple(
            judged(
                comparison,
                values[comparison.point, comparison.measure],
                values[comparison.reference, comparison.measure],
            )
            for comparison in claim.comparisons
        ),
        runs=len(runs),
        tokens=max(outcome.tokens for outcome in outcomes),
    )


def _train(
    name: str, folder: Path, at_once: int, tell: Callable[[Launched], None]
) -> list[SweepRun]:
    sweep = read_sweep(ABLATIONS / f"{name}.yaml")
    runs = resolve_runs(sweep, folder / name)
    check_begun(runs)
    code = train_runs(runs, sweep.base, folder / name, tell, at_once=at_once)
    if code != DONE:
        raise UserError(f"{name}: ended with {code}; the same command goes on")
    return runs


def _of_points(outcomes: list[RunOutcome]) -> dict[tuple[str, str], BySeed]:
    """By the label of a point and a measure; what is no finite number is left out, and told."""
    values: dict[tuple[str, str], BySeed] = {}
    for outcome in outcomes:
        for measure, value in outcome.values.items():
            if math.isfinite(value):
                of_point = values.setdefault((outcome.run.point.label, measure), {})
                of_point[outcome.run.seed] = value
            else:
                print(f"{outcome.run.name}: {measure} is {value}", file=sys.stderr)
    return values


def _of_averages(runs: list[SweepRun]) -> dict[tuple[str, str], BySeed]:
    values: dict[tuple[str, str], BySeed] = {}
    for run in runs:
        for name, loss in losses_of_averages(run.folder).items():
            values.setdefault((name, LOSS), {})[run.seed] = loss
    return values
