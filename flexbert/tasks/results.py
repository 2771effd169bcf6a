"""Results of a suite: its ``results.jsonl``, one finished fit a line.

Lines are added and never changed. A line that a crash has cut loses itself alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from flexbert.config.encode import encode
from flexbert.config.plain_values import as_dict, count, dict_of, number, text, tree, value_of
from flexbert.errors import UserError, first_line
from flexbert.files.line_file import append_line, json_line
from flexbert.files.regular import open_regular

RESULTS = "results.jsonl"
PREDICTIONS = "predictions"
VALIDATION = "validation"
Mode = Literal["fine_tune", "frozen", "floor"]
# The names of floors, whatever the kind of a task makes of them.
MAJORITY = "majority"
TF_IDF = "tf-idf + logistic regression"


@dataclass(frozen=True, kw_only=True)
class FitData:
    """Where a split's examples are from."""

    source: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class FitEvaluation:
    """
    Attributes:
        update: updates done before it.
        epoch: passes over the examples done before it.
        loss: on the validation split; nan where it was no finite number.
        metrics: of the validation split, by name.
    """

    update: int
    epoch: float
    loss: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """A finished fit, or a floor, with what made it. Numbers that are not finite are nan.

    Attributes:
        fit: what tells it from every other fit: 16 hex digits.
        model: its row in tables.
        model_fingerprint: of the weights it began from.
        point: what the search set, by dotted key.
        settings: the task's node, resolved.
        budget: the share of its full length that it was given.
        start: the fit whose weights it began from; None for the model's own.
        metric: what fits of the task are chosen by.
        value: of that metric, on the validation split.
        metrics: all, on the validation split.
        tests: those of each test split, by its name.
        examples: how many, by split.
        epochs_run: passes over the training examples until the fit ended.
        train_tokens: trained on in all, passes counted.
        cut: examples that were too long and were cut, by split.
        evaluations: oldest first.
        data: by split.
        versions: of packages; None for one that is not installed.
        seconds: that the fit took.
        predictions: file of what it predicted, in the folder of the results; None if not kept.
    """

    fit: str
    suite: str
    task: str
    model: str
    model_path: str
    model_fingerprint: str
    mode: Mode
    seed: int
    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    budget: float = 1.0
    start: str | None = None
    metric: str
    value: float
    metrics: Mapping[str, float]
    tests: Mapping[str, Mapping[str, float]]
    examples: Mapping[str, int]
    updates: int
    epochs_run: float
    train_tokens: int
    cut: Mapping[str, int]
    evaluations: tuple[FitEvaluation, ...]
    data: Mapping[str, FitData]
    versions: Mapping[str, str | None]
    device: str
    seconds: float
    predictions: str | None = None

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> FitRecord:
        """Read one line's object; keys that this version does not know are passed over.

        Raises:
            KeyError, TypeError, ValueError: if it is not a record.
        """
        evaluations = plain["evaluations"]
        if not isinstance(evaluations, list):
            raise TypeError("evaluations: no list")
        record = cls(
            fit=value_of(plain, "fit", _fit_id),
            suite=value_of(plain, "suite", text),
            task=value_of(plain, "task", text),
            model=value_of(plain, "model", text),
            model_path=value_of(plain, "model_path", text),
            model_fingerprint=value_of(plain, "model_fingerprint", text),
            mode=value_of(plain, "mode", _mode),
            seed=value_of(plain, "seed", count),
            point=value_of(plain, "point", tree),
            settings=value_of(plain, "settings", tree),
            budget=value_of(plain, "budget", number),
            start=value_of(plain, "start", _optional(_fit_id)),
            metric=value_of(plain, "metric", text),
            value=value_of(plain, "value", _measured),
            metrics=dict_of(plain, "metrics", _measured),
            tests={
                name: dict_of(plain["tests"], name, _measured) for name in dict_of(plain, "tests")
            },
            examples=dict_of(plain, "examples", count),
            updates=value_of(plain, "updates", count),
            epochs_run=value_of(plain, "epochs_run", number),
            train_tokens=value_of(plain, "train_tokens", count),
            cut=dict_of(plain, "cut", count),
            evaluations=tuple(_evaluation(as_dict(each)) for each in evaluations),
            data={
                name: FitData(
                    source=value_of(split, "source", text),
                    fingerprint=value_of(split, "fingerprint", text),
                )
                for name, split in dict_of(plain, "data", as_dict).items()
            },
            versions=dict_of(plain, "versions", _optional(text)),
            device=value_of(plain, "device", text),
            seconds=value_of(plain, "seconds", number),
            predictions=value_of(plain, "predictions", _optional(text)),
        )
        if record.metric not in record.metrics:
            raise ValueError(f"metric: no {record.metric} among its metrics")
        return record


def append_result(folder: Path, record: FitRecord) -> None:
    """Add a finished fit to a suite's results; it is on the disk when this returns.

    Several processes may add at once.

    Raises:
        WriteError: if the disk refuses it.
    """
    append_line(folder / RESULTS, json_line(encode(record)))


def read_results(path: Path) -> list[FitRecord]:
    """The fits of a ``results.jsonl``, or of the folder that has one, in the order they finished.

    A line that is no record is passed over with a warning; a half last one, which is being written
    or was cut by a kill, without. Of two lines of one fit the last counts.

    Raises:
        UserError: if there is no such file, or nothing in it can be read.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{path}: no {RESULTS} there; give the folder of a suite's results")
    try:
        with open_regular(file) as opened:
            *lines, last = opened.read().split(b"\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    found: dict[str, FitRecord] = {}
    problems: dict[int, str] = {}
    for index, line in enumerate([*lines, last], start=1):
        try:
            record = FitRecord.read(as_dict(json.loads(line)))
            found[record.fit] = record
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
            problems[index] = what
    problems.pop(len(lines) + 1, None)
    first = next((f"line {index}: {problem}" for index, problem in problems.items()), None)
    if not found:
        raise UserError(f"{file}: no fit in it" + (f" ({first})" if first else " yet"))
    if first is not None:
        print(
            f"warning: {file}: {len(problems)} lines are no fits, and are passed over ({first})",
            file=sys.stderr,
        )
    return list(found.values())


def fingerprint_of(made_of: Mapping[str, Any]) -> str:
    """A hash of what a fit or a task is made of, the same in any process and on any machine."""
    text_of_it = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text_of_it.encode()).hexdigest()[:16]


def predictions_path(folder: Path, fit: str) -> Path:
    """Where a fit's predictions are kept, in the folder of a suite's results."""
    return folder / PREDICTIONS / f"{fit}.npz"


def _evaluation(plain: Mapping[str, Any]) -> FitEvaluation:
    return FitEvaluation(
        update=value_of(plain, "update", count),
        epoch=value_of(plain, "epoch", number),
        loss=value_of(plain, "loss", _measured),
        metrics=dict_of(plain, "metrics", _measured),
    )


def _fit_id(value: Any) -> str:
    if not re.fullmatch("[0-9a-f]{16}", text(value)):
        raise ValueError("not 16 hex digits")
    return text(value)


def _mode(value: Any) -> Mode:
    if value not in get_args(Mode):
        raise ValueError(f"none of {', '.join(get_args(Mode))}")
    found: Mode = value
    return found


def _measured(value: Any) -> float:
    """A number that a fit measured; null is one that JSON does not have."""
    return math.nan if value is None else number(value)


def _optional(check: Callable[[Any], str]) -> Callable[[Any], str | None]:
    return lambda value: None if value is None else check(value)
