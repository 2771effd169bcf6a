"""A search: every fit of a suite's tasks over some models, shared by any number of processes.

There is no queue but the results themselves. Each process looks which fits are wanted, takes the
first that is neither finished nor locked by another, makes it, and adds its line; a lock dies with
its holder, so that a fit that was killed is made by whoever comes next.
"""

from __future__ import annotations

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
from flexbert.tasks.fits import Fit, FitMaker, of_a_fit, weights_path
from flexbert.tasks.models import TaskModel
from flexbert.tasks.results import (
    RESULTS,
    FitRecord,
    Mode,
    append_result,
    read_results,
)
from flexbert.tasks.suite import FROM, Suite, Task
from flexbert.tasks.task_data import TaskExamples, read_task

LOCKS = "locks"
_WAIT_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class SearchProgress:
    """Where a search stands.

    Attributes:
        ready: fits that can be made now, in their order.
        known: how many fits are known to be needed, those that are finished included; a design may
            ask for more once it has seen some.
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
            over: dict[str, list[Fit]] = {}
            for name, task in self.suite.tasks.items():
                start = self._start_of(task)
                if start is not None and start not in over:
                    is_over = False
                    known += self._begun_with(task)
                    continue
                fits = self._wanted(model, task, over.get(start or "", []), done)
                open_ = [fit for fit in fits if fit.id not in done]
                ready += open_
                known += len(fits)
                finished += len(fits) - len(open_)
                if open_:
                    is_over = False
                else:
                    over[name] = fits
        return SearchProgress(ready=ready, known=known, finished=finished, is_over=is_over)

    def fits(self, done: Mapping[str, FitRecord]) -> list[Fit]:
        """All fits of this search, once it is over, in its order."""
        return [
            fit
            for model in self.models
            for task in self.suite.tasks.values()
            for fit in self.fits_of(model, task, done)
        ]

    def fits_of(self, model: TaskModel, task: Task, done: Mapping[str, FitRecord]) -> list[Fit]:
        """Those of a model and a task that are known to be needed.

        The tasks that it starts from must be over.
        """
        start = self._start_of(task)
        starts = [] if start is None else self.fits_of(model, self.suite.tasks[start], done)
        return self._wanted(model, task, starts, done)

    def keeps_weights(self, task: Task) -> bool:
        """Whether the weights of a task's best fits are needed."""
        starts = {each.settings.from_task for each in self.suite.tasks.values()}
        return self.mode == "fine_tune" and (self.keeps_all or task.name in starts)

    def _start_of(self, task: Task) -> str | None:
        """The task that another starts from; a probe leaves the encoder as it is."""
        return task.settings.from_task if self.mode == "fine_tune" else None

    def _begun_with(self, task: Task) -> int:
        """How many fits of a task are wanted before any of them is finished."""
        space = Space(len(task.points), task.settings.seeds, task.settings.metric)
        return len(self.design.wanted(space, {}))

    def _wanted(
        self,
        model: TaskModel,
        task: Task,
        starts: Sequence[Fit],
        done: Mapping[str, FitRecord],
    ) -> list[Fit]:
        """The fits of a task and a model that are known to be needed.

        Args:
            starts: the finished ones of the task that it starts from.
        """
        space = Space(len(task.points), task.settings.seeds, task.settings.metric)
        values: dict[FitChoice, float] = {}
        while True:
            if self.mode == "fine_tune":
                choices = self.design.wanted(space, values)
            else:
                choices = [FitChoice(0, seed) for seed in task.settings.seeds]
            fits = {choice: self._fit(model, task, choice, starts, done) for choice in choices}
            new = {
                choice: done[fit.id].value
                for choice, fit in fits.items()
                if fit.id in done and choice not in values
            }
            if not new:
                return list(fits.values())
            values |= new

    def _fit(
        self,
        model: TaskModel,
        task: Task,
        choice: FitChoice,
        starts: Sequence[Fit],
        done: Mapping[str, FitRecord],
    ) -> Fit:
        start = None
        if self._start_of(task) is not None:
            start = best_whole_fit([fit for fit in starts if fit.seed == choice.seed], done)
        key = (model.label, task.name, choice, start and start.id)
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
    examples: Mapping[str, TaskExamples] | None = None,
) -> Search:
    """A search, its rows read and held against what the folder has.

    Args:
        examples: of each task, where they are read already.

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
        examples=read_tasks(suite) if examples is None else examples,
        keeps_all=keeps_all,
    )
    for record in finished_fits(folder).values():
        _check_same(record, search)
    return search


def read_tasks(suite: Suite) -> dict[str, TaskExamples]:
    """Every task's rows. Raises: UserError, as :func:`~flexbert.tasks.task_data.read_task`."""
    return {name: read_task(task) for name, task in suite.tasks.items()}


def finished_fits(folder: Path) -> dict[str, FitRecord]:
    """The finished fits of a folder by their ids; none of one that is new.

    A kill may have left no more than the beginning of the first line.
    """
    file = folder / RESULTS
    if not file.exists() or b"\n" not in file.read_bytes():
        return {}
    return {record.fit: record for record in read_results(folder)}


def best_whole_fit(fits: Sequence[Fit], done: Mapping[str, FitRecord]) -> Fit:
    """The best of those finished fits that had all their updates; of equal ones the first."""
    whole = [fit for fit in fits if fit.budget == 1 and fit.id in done]
    best = best_of([done[fit.id] for fit in whole])
    return next(fit for fit in whole if fit.id == best.fit)


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
            maker.beat()
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
                _drop_others(search, fit)
            lock.unlink(missing_ok=True)
            return record
    return None


def _drop_others(search: Search, made: Fit) -> None:
    """Remove the weights of fits that another one of the same model, task and seed is better than.

    By the rule that chooses what others start from, so that what they need stays.
    """
    done = finished_fits(search.folder)
    alike = [
        fit
        for fit in search.fits_of(made.model, made.task, done)
        if fit.seed == made.seed and fit.budget == 1 and fit.id in done
    ]
    best = best_whole_fit(alike, done)
    for fit in alike:
        if fit.id != best.id:
            weights_path(search.folder, fit.id).unlink(missing_ok=True)


def _check_same(record: FitRecord, search: Search) -> None:
    """Raises UserError if a fit of the folder is of another task by the name of one of these."""
    task = search.suite.tasks.get(record.task)
    if task is None or record.mode == "floor":
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
    if record.mode != search.mode:
        return
    axes = {*record.point, *task.grid}
    before = _compared(record.settings, record.mode, axes)
    now = _compared(task.settings.written, record.mode, axes)
    for key, (old, new) in changed_keys(before, now).items():
        raise UserError(f"{place} with {key} {shown(str(old))}, not {shown(str(new))}; {hint}")


def _compared(settings: Mapping[str, Any], mode: Mode, axes: Collection[str]) -> dict[str, Any]:
    """What fits of a mode depend on of a task's settings, without what its grid varies."""
    plain = {**of_a_fit(settings, mode), "metrics": settings["metrics"][:1]}
    if mode == "fine_tune":
        plain[FROM] = settings[FROM]
    return {key: value for key, value in flatten(plain).items() if key not in axes}
