"""Trains the trials of a search, next to any other processes that do.

A process takes the first trial that has no end and that no other process works on, and draws one
more where there is none. A trial whose process was killed has no end in the journal, so that the
next one goes on with its run, once a launch that outlived its process has ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flexbert.config.duration import Duration
from flexbert.errors import UserError
from flexbert.files.file_lock import file_lock
from flexbert.metrics_file import METRICS, read_metrics
from flexbert.sweeps.launches import Launched, Launches
from flexbert.sweeps.outcomes import read_outcome
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.running import check_begun, train_runs
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.search_space import AdaptiveSearch
from flexbert.sweeps.study import Study, Trial
from flexbert.sweeps.sweep_file import Sweep
from flexbert.train.processes.run_errors import DONE, PREEMPTED, NumbersError
from flexbert.train.processes.run_lock import folder_is_held

_LOOK_SECONDS = 1.0


class TrialRuns:
    """The runs of a search's trials, each resolved once.

    Args:
        folder: of the sweep.
    """

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.sweep = sweep
        self.folder = folder
        self._found: dict[str, list[SweepRun]] = {}

    def of(self, trial: Trial) -> list[SweepRun]:
        """One run for each seed.

        Raises:
            UserError: if its recipe is wrong.
        """
        label = trial.point.label
        if label not in self._found:
            self._found[label] = resolve_runs(with_points(self.sweep, [trial.point]), self.folder)
        return self._found[label]


def with_points(sweep: Sweep, points: Sequence[SweepPoint]) -> Sweep:
    """A sweep over points that were drawn, at least one, as if they had been listed."""
    return replace(sweep, points=tuple(points), reference=points[0])


def open_study(runs: TrialRuns, search: AdaptiveSearch) -> Study:
    """The study of a sweep's search, begun where it is not yet.

    Raises:
        UserError: if it was begun as another search, or its runs with other recipes.
    """
    sweep = runs.sweep
    study = Study(runs.folder, search, measure=sweep.measures[0], seeds=sweep.seeds)
    for trial in study.trials():
        if trial.state != "bad":
            check_begun(runs.of(trial))
    return study


def train_trials(
    study: Study,
    runs: TrialRuns,
    search: AdaptiveSearch,
    tell: Callable[[Launched], None],
    *,
    num_processes: int = 1,
    at_once: int = 1,
) -> int:
    """Draw and train trials until all have an end, or their runs have failed.

    Args:
        tell: is called after each launch of this process.
        num_processes: of each run.
        at_once: how many runs of a trial, which differ in their seeds, train at the same time.

    Returns:
        0 when all have an end, 75 when this process was told to stop, otherwise the code of the
        first run that has failed.
    """
    worker = _Worker(
        study=study,
        runs=runs,
        search=search,
        tell=tell,
        num_processes=num_processes,
        at_once=at_once,
    )
    # It launches nothing itself, and hears signals that come between two trials.
    with Launches(runs.sweep.base, runs.folder, num_processes, ()) as between:
        while not between.stopping:
            trials = study.trials()
            open_trials = [trial for trial in trials if trial.state == "open"]
            if worker.train_one(open_trials, trials):
                if worker.was_stopped:
                    return PREEMPTED
            elif not study.draw():
                if all(trial.number in worker.failed for trial in open_trials):
                    return next(iter(worker.failed.values()), DONE)
                time.sleep(_LOOK_SECONDS)
    return PREEMPTED


@dataclass(kw_only=True)
class _Worker:
    """What one process does of a search.

    Attributes:
        failed: the exit codes of trials whose runs have failed here, which may go well next time.
        was_stopped: whether it was told to stop.
    """

    study: Study
    runs: TrialRuns
    search: AdaptiveSearch
    tell: Callable[[Launched], None]
    num_processes: int
    at_once: int
    failed: dict[int, int] = field(default_factory=dict)
    was_stopped: bool = False

    def train_one(self, open_trials: Sequence[Trial], trials: Sequence[Trial]) -> bool:
        """Bring one trial to its end; whether there was one that nobody else works on."""
        for trial in open_trials:
            if trial.number in self.failed:
                continue
            first = next(one for one in trials if one.point.label == trial.point.label)
            if first.number in self.failed:
                self.failed[trial.number] = self.failed[first.number]
            elif first.number != trial.number:
                # The same point again, which is not trained twice.
                if first.state != "open":
                    self.study.end_as(trial.number, first)
                    return True
            elif self._train(trial):
                return True
        return False

    def _train(self, trial: Trial) -> bool:
        """Train a trial; False if another process does, or has."""
        lock = self.study.folder / f"trial-{trial.number}.lock"
        with file_lock(lock, wait=False) as is_held:
            if not is_held or self.study.trials()[trial.number].state != "open":
                return False
            try:
                runs = self.runs.of(trial)
            except UserError as error:
                # Each value of its keys is a right one, and these together are not.
                self.study.end(trial.number, math.nan, str(error))
                return True
            if any(folder_is_held(run.folder) for run in runs):
                return False
            code = train_runs(
                runs,
                self.runs.sweep.base,
                self.runs.folder,
                self.tell,
                num_processes=self.num_processes,
                at_once=self.at_once,
                is_enough=self._watch(trial) if self.search.halving is not None else None,
            )
            if code == PREEMPTED:
                self.was_stopped = True
            elif code == NumbersError.exit_code:
                # It would again: of a search that is a result, and a bad one.
                self.study.end(trial.number, math.nan, "its numbers went bad")
            elif code != DONE:
                self.failed[trial.number] = code
            elif self.study.trials()[trial.number].state == "open":
                self._end(trial, runs)
            return True

    def _end(self, trial: Trial, runs: Sequence[SweepRun]) -> None:
        # What was recorded decides, whether or not a process was there to look at it.
        if self.search.halving is not None and self._watch(trial)(runs[0]):
            return
        measure = self.runs.sweep.measures[0]
        found = [read_outcome(run, [measure]).values[measure] for run in runs]
        self.study.end(trial.number, sum(found) / len(found), f"{measure} is no finite number")

    def _watch(self, trial: Trial) -> Callable[[SweepRun], bool]:
        """Whether a run is stopped at a rung, by what it has recorded since it was last asked."""
        assert self.search.halving is not None
        first, measure = self.search.halving.first, self.runs.sweep.measures[0]
        seen: set[int] = set()

        def is_enough(run: SweepRun) -> bool:
            new = {
                at: value
                for at, value in _reports(run.folder, measure, first).items()
                if at not in seen
            }
            seen.update(new)
            return bool(new) and self.study.is_enough(trial.number, new)

        return is_enough


def _reports(folder: Path, measure: str, first: Duration) -> dict[int, float]:
    """A measure by tokens, or by updates, as far as a run has recorded it."""
    # A launch begins by making the file, or by making it anew.
    if not (folder / METRICS).is_file():
        return {}
    try:
        records = read_metrics(folder)
    except UserError:
        return {}
    return {
        record.tokens if first.unit == "tok" else record.step: record.numbers[measure]
        for record in records
        if measure in record.numbers
    }
