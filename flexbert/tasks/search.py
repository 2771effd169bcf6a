"""A search: every fit of a suite's tasks over some models, shared by any number of processes.

There is no queue but the results themselves. Each process looks which fits are wanted, takes the
first that is neither finished nor locked by another, makes it, and adds its line; a lock dies with
its holder, so that a fit that was killed is made by whoever comes next.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flexbert.config.tree import changed_keys, flatten
from flexbert.errors import UserError, shown
from flexbert.files.durable import make_folder
from flexbert.files.file_lock import file_lock
from flexbert.tasks.choosing import best_of
from flexbert.tasks.designs import Design, FitChoice, Space
from flexbert.tasks.fits import NOT_OF_A_FIT, Fit, FitMaker, weights_path
from flexbert.tasks.models import TaskModel
from flexbert.tasks.results import (
    RESULTS,
    FitRecord,
    Mode,
    append_result,
    read_results,
)
from flexbert.tasks.suite import Suite, Task
from flexbert.tasks.task_data import TaskExamples, read_task

LOCKS = "locks"
_WAIT_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class SearchProgress:
    """Where a search stands.

    Attributes:
        ready: fits that can be made now, in their order.
        known: how many fits are known to be needed, those that are finished included.
        finished: how many of them are.
        is_over: whether nothing is left, nor will be.
    """

    ready: Sequence[Fit]
    known: int
    finished: int
    is_over: bool


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched.

    Attributes:
        folder: of the results.
        examples: of each task.
        keeps_all: whether the weights of every task's best fits are kept, and not only those that
            others start from.
    """

    suite: Suite
    models: Sequence[TaskModel]
    mode: Mode
    design: Design
    folder: Path
    examples: Mapping[str, TaskExamples]
    keeps_all: bool = False
    _fits: dict[Any, Fit] = field(default_factory=dict)

    def progress(self, done: Mapping[str, FitRecord]) -> SearchProgress:
        """Where the search stands, given the fits that are finished by their ids."""
        ready: list[Fit] = []
        known = finished = 0
        is_over = True
        for model in self.models:
            over: dict[str, list[FitRecord]] = {}
            for name, task in self.suite.tasks.items():
                start = task.settings.from_task if self.mode == "fine_tune" else None
                if start is not None and start not in over:
                    is_over = False
                    continue
                fits = self._wanted(model, task, over.get(start or "", []), done)
                open_ = [fit for fit in fits if fit.id not in done]
                ready += open_
                known += len(fits)
                finished += len(fits) - len(open_)
                if open_:
                    is_over = False
                else:
                    over[name] = [done[fit.id] for fit in fits]
        return SearchProgress(ready=ready, known=known, finished=finished, is_over=is_over)

    def records(self, done: Mapping[str, FitRecord]) -> list[FitRecord]:
        """Those of the finished fits that are this search's, once it is over."""
        found: list[FitRecord] = []
        for model in self.models:
            own: dict[str, list[FitRecord]] = {}
            for name, task in self.suite.tasks.items():
                start = task.settings.from_task or ""
                fits = self._wanted(model, task, own.get(start, []), done)
                own[name] = [done[fit.id] for fit in fits if fit.id in done]
                found += own[name]
        return found

    def fit_of(self, record: FitRecord, done: Mapping[str, FitRecord]) -> Fit:
        """The fit that a record of this search is of."""
        self.records(done)
        return next(fit for fit in self._fits.values() if fit.id == record.fit)

    def keeps_weights(self, task: Task) -> bool:
        """Whether the weights of a task's best fits are needed."""
        starts = {each.settings.from_task for each in self.suite.tasks.values()}
        return self.mode == "fine_tune" and (self.keeps_all or task.name in starts)

    def _wanted(
        self,
        model: TaskModel,
        task: Task,
        starts: Sequence[FitRecord],
        done: Mapping[str, FitRecord],
    ) -> list[Fit]:
        """The fits of a task and a model that are known to be needed."""
        space = Space(len(task.points), task.settings.seeds, task.settings.metric)
        values: dict[FitChoice, float] = {}
        while True:
            if self.mode == "fine_tune":
                choices = self.design.wanted(space, values)
            else:
                choices = [FitChoice(0, seed) for seed in task.settings.seeds]
            fits = {choice: self._fit(model, task, choice, starts) for choice in choices}
            new = {
                choice: done[fit.id].value
                for choice, fit in fits.items()
                if fit.id in done and choice not in values
            }
            if not new:
                return list(fits.values())
            values |= new

    def _fit(
        self, model: TaskModel, task: Task, choice: FitChoice, starts: Sequence[FitRecord]
    ) -> Fit:
        start = None
        if task.settings.from_task is not None and self.mode == "fine_tune":
            start = best_of(
                [each for each in starts if each.seed == choice.seed and each.budget == 1]
            )
        key = (model.label, task.name, choice, start and start.fit)
        if key not in self._fits:
            self._fits[key] = Fit(
                suite=self.suite.name,
                task=task,
                examples=self.examples[task.name],
                model=model,
                mode=self.mode,
                point=task.points[choice.point],
                seed=choice.seed,
                budget=choice.budget,
                start=start,
            )
        return self._fits[key]


def make_search(
    suite: Suite,
    models: Sequence[TaskModel],
    mode: Mode,
    design: Design,
    folder: Path,
    *,
    keeps_all: bool = False,
) -> Search:
    """A search, its rows read and held against what the folder has.

    Raises:
        UserError: if a task's rows cannot be read, or the folder holds fits of another task by the
            same name.
    """
    search = Search(
        suite=suite,
        models=models,
        mode=mode,
        design=design,
        folder=folder,
        examples={name: read_task(task) for name, task in suite.tasks.items()},
        keeps_all=keeps_all,
    )
    for record in finished_fits(folder).values():
        _check_same(record, search)
    return search


def finished_fits(folder: Path) -> dict[str, FitRecord]:
    """The finished fits of a folder by their ids; none of one that is new."""
    if not (folder / RESULTS).exists():
        return {}
    return {record.fit: record for record in read_results(folder)}


def run_search(
    search: Search, maker: FitMaker, tell: Callable[[FitRecord, SearchProgress], None]
) -> None:
    """Make fits until the search is over, next to any other processes that do.

    Args:
        tell: is called with each fit that this process has made, and where the search stands.
    """
    make_folder(search.folder / LOCKS)
    while True:
        progress = search.progress(finished_fits(search.folder))
        if progress.is_over:
            return
        record = _make_first_free(search, maker, progress.ready)
        if record is None:
            time.sleep(_WAIT_SECONDS)
        else:
            tell(record, search.progress(finished_fits(search.folder)))


def _make_first_free(search: Search, maker: FitMaker, ready: Sequence[Fit]) -> FitRecord | None:
    """Make the first of these fits that no other process makes; None if there is none."""
    for fit in ready:
        lock = search.folder / LOCKS / fit.id
        with file_lock(lock, wait=False) as is_held:
            if not is_held:
                continue
            # It may have been finished, and unlocked, since the results were read.
            if fit.id in finished_fits(search.folder):
                lock.unlink(missing_ok=True)
                return None
            keeps = search.keeps_weights(fit.task) and fit.budget == 1
            record = maker.make(fit, keep_weights=keeps)
            append_result(search.folder, record)
            if keeps:
                _drop_others(search.folder, record)
            lock.unlink(missing_ok=True)
            return record
    return None


def _drop_others(folder: Path, record: FitRecord) -> None:
    """Remove the weights of fits that another of the same model, task and seed is better than."""
    alike = [
        each
        for each in finished_fits(folder).values()
        if (each.model_fingerprint, each.task, each.seed, each.budget, each.mode, each.start)
        == (record.model_fingerprint, record.task, record.seed, 1.0, record.mode, record.start)
    ]
    # By id, as processes see them finish in different orders.
    best = best_of(sorted(alike, key=lambda each: each.fit))
    for each in alike:
        if each.fit != best.fit:
            with contextlib.suppress(FileNotFoundError):
                weights_path(folder, each.fit).unlink()


def _check_same(record: FitRecord, search: Search) -> None:
    """Raises UserError if a fit of the folder is of another task by the name of one of these."""
    task = search.suite.tasks.get(record.task)
    if task is None or record.mode != search.mode:
        return
    place = f"{search.folder}: holds fits of {record.task} that were made"
    hint = "give another folder (--out)"
    if record.suite != search.suite.name:
        raise UserError(f"{place} for the suite {record.suite}, not {search.suite.name}; {hint}")
    for name, data in search.examples[record.task].data.items():
        if name in record.data and record.data[name].fingerprint != data.fingerprint:
            raise UserError(
                f"{place} with other rows of {name} ({record.data[name].source}); {hint}"
            )
    settings = _without_axes(record.settings, {*record.point, *task.grid})
    own = _without_axes(task.settings.written, {*record.point, *task.grid})
    for key, (before, now) in changed_keys(settings, own).items():
        raise UserError(f"{place} with {key} {shown(str(before))}, not {shown(str(now))}; {hint}")


def _without_axes(settings: Mapping[str, Any], axes: Collection[str]) -> dict[str, Any]:
    """A task's settings without what its grid varies, and what fits do not depend on."""
    flat = flatten({key: settings[key] for key in settings if key not in NOT_OF_A_FIT})
    return {key: value for key, value in flat.items() if key not in axes}
