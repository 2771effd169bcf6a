"""Trains what a claim needs, and holds it against what came of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.evidence.averages import losses_of_averages
from benchmarks.evidence.claims import LOSS, SPEED, Claim
from benchmarks.evidence.verdicts import BySeed, Judged, judged
from flexbert.errors import UserError
from flexbert.recipes import load_recipe
from flexbert.report.recorded_run import recorded_recipe
from flexbert.sweeps.condition_notes import held_conditions
from flexbert.sweeps.launches import LOGS, Launched
from flexbert.sweeps.outcomes import RunOutcome, read_outcome
from flexbert.sweeps.running import check_begun, is_finished, train_runs
from flexbert.sweeps.runs import RUNS, SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from flexbert.train.processes.run_errors import DONE, PREEMPTED

ABLATIONS = Path("yamls") / "ablations"
AVERAGES = "averages"
# The keys that say where a run lies.
_PLACE = ("run_name", "runs_folder")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A claim and its comparisons.

    Attributes:
        runs: that were trained for it.
        tokens: that the longest was trained on.
        conditions: what was held equal, and what was not, in lines.
        unigram_entropy: of the validation split, in nats a token.
    """

    claim: Claim
    judged: tuple[Judged, ...]
    runs: int
    tokens: int
    conditions: tuple[str, ...] = ()
    unigram_entropy: float = math.nan


def tried(claim: Claim, folder: Path, at_once: int, tell: Callable[[Launched], None]) -> Trial:
    """Train what is missing of a claim's sweeps in ``folder``, one folder each, and compare.

    Raises:
        UserError: if a run fails.
        SystemExit: if training is stopped; the same command goes on.
    """
    measures = sorted({comparison.measure for comparison in claim.comparisons})
    for name in claim.before:
        _train(name, folder, at_once, tell)
    runs = _train(claim.sweep, folder, at_once, tell, shares=SPEED not in measures)
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
        conditions=_conditions(claim, runs),
        unigram_entropy=outcomes[0].unigram_entropy or math.nan,
    )


def _conditions(claim: Claim, runs: Sequence[SweepRun]) -> tuple[str, ...]:
    sweep = read_sweep(ABLATIONS / f"{claim.sweep}.yaml")
    # The averages are of one run; nothing differs.
    return tuple(held_conditions(sweep, runs, runs)) if len(sweep.points) > 1 else ()


def _train(
    name: str,
    folder: Path,
    at_once: int,
    tell: Callable[[Launched], None],
    *,
    shares: bool = False,
) -> list[SweepRun]:
    """The runs of a sweep, finished.

    Args:
        shares: whether a finished run of the same recipe in another sweep stands for one of this:
            most sweeps have the base as their reference. Speeds are measured side by side.
    """
    sweep = read_sweep(ABLATIONS / f"{name}.yaml")
    runs = resolve_runs(sweep, folder / name)
    check_begun(runs)
    found = _as_trained(runs, sweep, folder) if shares else runs
    own = [run for run, there in zip(runs, found, strict=True) if there is run]
    code = train_runs(own, sweep.base, folder / name, tell, at_once=at_once)
    if code == PREEMPTED:
        print(f"{name}: stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(code)
    if code != DONE:
        raise UserError(f"{name}: ended with {code}; see {folder / name / LOGS}")
    return found


def _as_trained(runs: Sequence[SweepRun], sweep: Sweep, folder: Path) -> list[SweepRun]:
    """Each run as another sweep below ``folder`` has trained it, or as it is where none has."""
    others = [
        (other, _without_place(recorded_recipe(other)[1]))
        for other in sorted(folder.glob(f"*/{RUNS}/*"))
    ]

    def found(run: SweepRun) -> SweepRun:
        if is_finished(run):
            return run
        wanted = _without_place(run.recipe.resolved)
        for other, recipe in others:
            if recipe == wanted:
                place = (f"run_name={other.name}", f"runs_folder={other.parent}")
                there = replace(run, recipe=load_recipe(sweep.base, (*run.overrides, *place)))
                if is_finished(there):
                    return there
        return run

    return [found(run) for run in runs]


def _without_place(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key not in _PLACE}


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
