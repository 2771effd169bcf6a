"""The table of a sweep that searches: that of its runs, and what became of each trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from flexbert.sweeps.outcomes import more_is_better
from flexbert.sweeps.search_space import AdaptiveSearch
from flexbert.sweeps.searching import TrialRuns, with_points
from flexbert.sweeps.study import Trial
from flexbert.sweeps.sweep_report import report_sweep
from flexbert.sweeps.sweep_table import SweepTable, sweep_table
from flexbert.sweeps.sweep_text import sweep_table_text


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


def search_table(runs: TrialRuns, search: AdaptiveSearch, trials: Sequence[Trial]) -> SearchTable:
    """The table of a search: of trials that have no end yet, and of those that do."""
    sweep = runs.sweep
    measure = sweep.measures[0]
    complete = [trial for trial in trials if trial.state == "complete"]
    sign = -1 if more_is_better(measure) else 1
    best = min(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)
    drawn: dict[str, Trial] = {}
    for trial in trials:
        # What has no number at all is listed by itself, and may have no recipe.
        if trial.state != "bad":
            drawn.setdefault(trial.point.label, trial)
    points = [trial.point for trial in drawn.values()]
    if points:
        own_runs = [run for trial in drawn.values() for run in runs.of(trial)]
        table = report_sweep(with_points(sweep, points), own_runs, runs.folder)
    else:
        table = sweep_table(sweep, [])
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
            value = "no finite number" if trial.value is None else f"{trial.value:.5g}"
            place = f"{trial.at:,}{table.unit}"
            yield f"{trial.number:>4}  {trial.point.label}: stopped at {place} with {value}"
