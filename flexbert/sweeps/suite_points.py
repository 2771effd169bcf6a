"""The points of a sweep over a suite: each a search of its own over the same models.

A point is the suite with some keys changed, and its fits lie in a folder of its own. What a point
leaves as it is in another, such as the tasks that a changed key is not of, is fitted once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flexbert.config.yaml_text import value_text
from flexbert.errors import ConfigError, UserError
from flexbert.files.durable import make_folder
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.runs import names_of_folders
from flexbert.sweeps.sweep_file import Sweep
from flexbert.tasks.designs import DESIGNS
from flexbert.tasks.evaluation import check_models, evaluate_suite
from flexbert.tasks.fits import Fit, fit_settings, weights_path
from flexbert.tasks.models import find_models
from flexbert.tasks.results import FitRecord, Mode, append_result
from flexbert.tasks.search import Search, SearchProgress, finished_fits, make_search
from flexbert.tasks.suite import Suite, Task, load_suite
from flexbert.tasks.task_data import TaskExamples, read_task

POINTS = "points"
_SEEDS = "seeds"


@dataclass(frozen=True, kw_only=True)
class SuitePoint:
    """A point, and the fits that it asks for."""

    point: SweepPoint
    search: Search


def suite_points(
    sweep: Sweep,
    folder: Path,
    mode: Mode,
    *,
    tasks: Sequence[str] | None = None,
    untrained: bool = False,
) -> list[SuitePoint]:
    """Every point, everything checked that can be before the first fit.

    Args:
        folder: of the sweep; the points' folders lie below it.
        tasks: names of those to take; None takes all.
        untrained: also each model's like with weights drawn anew.

    Raises:
        UserError: naming the first point whose suite is wrong; or if a model or a row is, or two
            points ask for the same fits.
    """
    assert sweep.models is not None, "the base is a suite"
    names = names_of_folders([point.label for point in sweep.points])
    suites: list[Suite] = []
    for number, point in enumerate(sweep.points, 1):
        try:
            suites.append(_suite(sweep, point, tasks))
        except UserError as error:
            where = f"point {number} of {len(sweep.points)} ({point.label})"
            raise UserError(f"{where}: {error}") from None
    models = find_models(sweep.models, untrained=untrained)
    rows = _Rows()
    found = [
        SuitePoint(
            point=point,
            search=make_search(
                suite,
                models,
                mode,
                DESIGNS["full"],
                folder / POINTS / name,
                examples={task.name: rows.of(task) for task in suite.tasks.values()},
            ),
        )
        for point, suite, name in zip(sweep.points, suites, names, strict=True)
    ]
    check_models([each.search for each in found])
    _check_distinct(found)
    return found


def fit_points(
    points: Sequence[SuitePoint],
    device: torch.device,
    tell: Callable[[SweepPoint, FitRecord, SearchProgress], None],
) -> None:
    """Make the fits of all points, one point after the other, next to any processes that do.

    Args:
        tell: is called with each fit that this process has made.

    Raises:
        UserError: if the disk refuses a file.
    """
    for index, own in enumerate(points):

        def told(record: FitRecord, progress: SearchProgress, own: SuitePoint = own) -> None:
            tell(own.point, record, progress)

        while _take_over(own.search, [each.search.folder for each in points[:index]]):
            # Tasks that start from those that were taken are known now.
            pass
        evaluate_suite(own.search, device, told)


def same_fits(points: Sequence[SuitePoint]) -> Iterator[tuple[SuitePoint, str, str]]:
    """A point, a task and the first point that has the same fits of it, for each that there is."""
    seen: dict[tuple[str, str], str] = {}
    for each in points:
        for name in each.search.suite.tasks:
            made_of = name, repr(_fits_of(each.search, name))
            first = seen.setdefault(made_of, each.point.label)
            if first != each.point.label:
                yield each, name, first


class _Rows:
    """Tasks' rows, which most points have in common: read once."""

    def __init__(self) -> None:
        self._read: dict[str, TaskExamples] = {}

    def of(self, task: Task) -> TaskExamples:
        """Raises: UserError, as :func:`~flexbert.tasks.task_data.read_task`."""
        written = task.settings.written
        key = repr([task.name, *(written[name] for name in ("data", "kind", "metrics"))])
        if key not in self._read:
            self._read[key] = read_task(task)
        return self._read[key]


def _suite(sweep: Sweep, point: SweepPoint, tasks: Sequence[str] | None) -> Suite:
    values = {**sweep.overrides, **point.values}
    if "suite" in values:
        raise ConfigError("suite", "is the suite's name, which the points have in common")
    if sweep.seeds:
        if given := [key for key in values if key.split(".")[-1] == _SEEDS]:
            raise ConfigError(given[0], "is the sweep's to give: seeds")
        every = load_suite(sweep.base).tasks
        values |= {f"tasks.{name}.{_SEEDS}": list(sweep.seeds) for name in every}
    overrides = [f"{key}={value_text(one)}" for key, one in values.items()]
    return load_suite(sweep.base, overrides, tasks)


def _check_distinct(points: Sequence[SuitePoint]) -> None:
    """Raises UserError if a point asks for the fits of another, of every task."""
    seen: dict[str, str] = {}
    for each in points:
        made_of = repr([_fits_of(each.search, name) for name in each.search.suite.tasks])
        first = seen.setdefault(made_of, each.point.label)
        if first != each.point.label:
            of_mode = "of a frozen encoder" if each.search.mode == "frozen" else "of fine-tuning"
            raise UserError(
                f"{each.point.label}: has the same fits as {first}: what differs changes nothing "
                f"{of_mode}, or is said otherwise by every task or its grid"
            )


def _fits_of(search: Search, name: str) -> Any:
    """All that the fits of a task depend on, but for the models."""
    task = search.suite.tasks[name]
    is_fitted = search.mode == "fine_tune"
    start = task.settings.from_task if is_fitted else None
    # A probe has no grid.
    points = task.points if is_fitted else task.points[:1]
    return (
        [fit_settings(point.settings, search.mode) for point in points],
        task.settings.seeds,
        [(split, data.fingerprint) for split, data in search.examples[name].data.items()],
        None if start is None else (start, _fits_of(search, start)),
    )


def _take_over(search: Search, folders: Sequence[Path]) -> int:
    """Take finished fits from folders of other points that this one asks for too; how many."""
    wanted = {fit.id: fit for fit in search.progress(finished_fits(search.folder)).ready}
    taken = 0
    for folder in folders:
        for record in finished_fits(folder).values():
            if record.fit in wanted:
                _copy_fit(wanted.pop(record.fit), record, folder, search.folder)
                taken += 1
    return taken


def _copy_fit(fit: Fit, record: FitRecord, folder: Path, to: Path) -> None:
    kept = [folder / record.predictions] if record.predictions else []
    if (weights := weights_path(folder, fit.id)).exists():
        # Others may start from them; they are made again where they are not there.
        kept.append(weights)
    for path in kept:
        copy = to / path.relative_to(folder)
        make_folder(copy.parent)
        shutil.copyfile(path, copy)
    # Its line comes last: a kill before it leaves a fit that is not finished.
    append_result(to, record)
