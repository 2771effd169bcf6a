"""The table of a sweep that searches: that of its runs, and what became of each trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from flexbert.errors import UserError
from flexbert.sweeps.outcomes import RunOutcome, more_is_better, read_outcome
from flexbert.sweeps.running import is_finished
from flexbert.sweeps.search_space import Search
from flexbert.sweeps.searching import drawn_points, trial_runs
from flexbert.sweeps.study import Trial
from flexbert.sweeps.sweep_file import Sweep
from flexbert.sweeps.sweep_table import SweepTable, sweep_table, sweep_table_text


@dataclass(frozen=True, kw_only=True)
class SearchTable(SweepTable):
    """What a search has come to so far.

    Attributes:
        best: number of the complete trial with the best value; None where none is complete.
        unit: of where trials were stopped, ``tok`` or ``ba``.
    """

    trials: tuple[Trial, ...]
    best: int | None
    unit: str


def search_table(
    sweep: Sweep, search: Search, trials: Sequence[Trial], folder: Path
) -> SearchTable:
    """The table of a search: of trials that have no end yet, and of those that do."""
    measure = sweep.measures[0]
    complete = [trial for trial in trials if trial.state == "complete"]
    sign = -1 if more_is_better(measure) else 1
    best = min(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)
    drawn = drawn_points(sweep, trials) if trials else sweep
    table = sweep_table(drawn, list(_outcomes(sweep, trials, folder)))
    own = {field.name: getattr(table, field.name) for field in fields(SweepTable)}
    own["total"] = search.trials * len(sweep.seeds)
    return SearchTable(
        **own,
        trials=tuple(trials),
        best=None if best is None else best.number,
        unit="" if search.halving is None else search.halving.first.unit,
    )


def search_table_text(table: SearchTable) -> str:
    """The table as lines for people."""
    return "\n".join([sweep_table_text(table), *_trial_lines(table)])


def _outcomes(sweep: Sweep, trials: Sequence[Trial], folder: Path) -> Iterator[RunOutcome]:
    seen = set()
    for trial in trials:
        if trial.point.label in seen:
            continue
        seen.add(trial.point.label)
        try:
            runs = trial_runs(sweep, trial, folder)
        except UserError:
            continue  # the trial says so
        for run in runs:
            if is_finished(run):
                yield read_outcome(run, sweep.measures)


def _trial_lines(table: SearchTable) -> Iterator[str]:
    if table.best is not None:
        best = table.trials[table.best]
        yield from ("", f"best of {len(table.trials)} trials: {best.point.label}")
    listed = [trial for trial in table.trials if trial.state in ("stopped", "bad")]
    if listed:
        yield from ("", "trials that have no value of a whole run", "")
    for trial in listed:
        if trial.state == "bad":
            yield f"{trial.number:>4}  {trial.point.label}: {trial.problem}"
        else:
            yield (
                f"{trial.number:>4}  {trial.point.label}: stopped at {trial.at:,}{table.unit} with "
                f"{trial.value:.5g}"
            )
