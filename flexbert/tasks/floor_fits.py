"""The floors of a search's tasks, made and kept as fits are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from flexbert.doctor import package_version
from flexbert.files.durable import make_folder
from flexbert.files.file_lock import file_lock
from flexbert.tasks.fits import fit_settings
from flexbert.tasks.floors import (
    AnswerExamples,
    ChoiceExamples,
    Floor,
    FloorExamples,
    TextExamples,
    WordExamples,
    majority_floor,
)
from flexbert.tasks.kinds.kind import Examples
from flexbert.tasks.linear_floor import tf_idf_floor
from flexbert.tasks.predictions_file import FitPredictions, write_predictions
from flexbert.tasks.results import (
    MAJORITY,
    TF_IDF,
    VALIDATION,
    FitRecord,
    append_result,
    fingerprint_of,
    predictions_path,
)
from flexbert.tasks.scoring import score
from flexbert.tasks.search import LOCKS, Search, finished_fits
from flexbert.tasks.suite import Task
from flexbert.tasks.task_data import TRAIN, TaskExamples

# Raised whenever a floor of the same rows comes to something else.
_FORMAT = 1
_PACKAGES = ("flexbert", "scikit-learn", "scipy", "numpy")


def make_floors(search: Search) -> None:
    """Add the floors of a search's tasks to its results, where they are not there yet.

    Raises:
        WriteError: if the disk refuses it.
    """
    make_folder(search.folder / LOCKS)
    for name, task in search.suite.tasks.items():
        examples = search.examples[name]
        for model, make in _floors(task, examples):
            fit = _id(task, examples, model)
            lock = search.folder / LOCKS / fit
            with file_lock(lock):
                if fit not in finished_fits(search.folder):
                    begun = time.perf_counter()
                    _keep(search, task, fit, make(), begun)
                lock.unlink(missing_ok=True)


def _floors(task: Task, examples: TaskExamples) -> Iterator[tuple[str, Callable[[], Floor]]]:
    """Each floor's row in tables, and what makes it."""
    kind, metric = examples.kind.name, task.settings.metric
    splits = {name: _plain(kind, split) for name, split in examples.splits.items()}
    train = splits.pop(TRAIN)
    yield MAJORITY, partial(majority_floor, train, splits)
    yield TF_IDF, partial(tf_idf_floor, kind, train, splits, metric, examples.names)


def _plain(kind: str, examples: Examples) -> FloorExamples:
    """A split as floors take it."""
    if kind == "token_classification":
        return WordExamples(words=examples.first, labels=examples.labels)
    if kind == "question_answering":
        assert examples.second is not None
        return AnswerExamples(
            questions=list(map(str, examples.first)),
            contexts=examples.second,
            answers=[[answer.text for answer in answers] for answers in examples.labels],
        )
    if examples.choices is not None:
        assert examples.second is not None
        ends = np.cumsum(examples.choices).tolist()
        begins = [0, *ends[:-1]]
        return ChoiceExamples(
            texts=[str(examples.first[begin]) for begin in begins],
            choices=[examples.second[begin:end] for begin, end in zip(begins, ends, strict=True)],
            labels=np.array(examples.labels),
        )
    return TextExamples(
        first=list(map(str, examples.first)),
        second=examples.second,
        labels=np.array(examples.labels),
    )


def _id(task: Task, examples: TaskExamples, model: str) -> str:
    made_of = {
        "format": _FORMAT,
        "floor": model,
        "task": task.name,
        "kind": fit_settings(task.settings, "frozen")["kind"],
        "metric": task.settings.metric,
        "data": {name: data.fingerprint for name, data in examples.data.items()},
    }
    return fingerprint_of(made_of)


def _keep(search: Search, task: Task, fit: str, floor: Floor, begun: float) -> None:
    examples, settings = search.examples[task.name], task.settings
    path = predictions_path(search.folder, fit)
    write_predictions(path, FitPredictions(label_names=examples.names, splits=floor.splits))
    metrics = {
        name: score(settings.metrics, examples.kind.name, split, examples.names)
        for name, split in floor.splits.items()
    }
    validation = metrics.pop(VALIDATION)
    append_result(
        search.folder,
        FitRecord(
            fit=fit,
            suite=search.suite.name,
            task=task.name,
            model=floor.model,
            model_path="",
            model_fingerprint="",
            mode="floor",
            seed=0,
            point=floor.settings,
            settings=settings.written,
            metric=settings.metric,
            value=validation[settings.metric],
            metrics=validation,
            tests=metrics,
            examples={name: len(split) for name, split in examples.splits.items()},
            updates=0,
            epochs_run=0.0,
            train_tokens=0,
            cut={},
            evaluations=(),
            data=examples.data,
            versions={name: package_version(name) for name in _PACKAGES},
            device="cpu",
            seconds=round(time.perf_counter() - begun, 3),
            predictions=str(path.relative_to(search.folder)),
        ),
    )
