"""All that a run's folder says of how it went, and the run that it goes on from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flexbert.config.plain_values import as_dict
from flexbert.errors import UserError
from flexbert.files.regular import read_regular
from flexbert.health_file import HealthEvent, read_health
from flexbert.manifest_file import Manifest
from flexbert.mask_examples_file import EvaluationExamples, read_mask_examples
from flexbert.metrics_file import METRICS, Record, read_metrics
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics

CONFIG = "config.yaml"


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The run that another one goes on from.

    Attributes:
        key: ``start_from``, which goes on with its clock, or ``init_from``, which begins a new one.
        records: up to the checkpoint that the other one took.
    """

    name: str
    key: str
    records: Sequence[Record]


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """
    Attributes:
        records: oldest first, at least one.
        recipe: the resolved one, a stage's values under ``stages``; empty where it cannot be read.
        recipe_text: the same as it stands in the folder.
        tasks: that its checkpoints were tried on, oldest first; empty where they were on none.
    """

    folder: Path
    records: Sequence[Record]
    manifest: Manifest
    recipe: Mapping[str, Any]
    recipe_text: str
    health: Sequence[HealthEvent]
    examples: Sequence[EvaluationExamples]
    tasks: Sequence[TaskMetrics]
    parent: Parent | None

    @property
    def name(self) -> str:
        return self.manifest.run_name

    @property
    def after_step(self) -> int:
        """Updates before the run's own first one: another run's, where it goes on from that."""
        launches = self.manifest.launches
        return launches[0].after_step if launches else 0

    def stages(self) -> dict[str, list[Record]]:
        """The records of each stage, in order."""
        stages: dict[str, list[Record]] = {}
        for record in self.records:
            stages.setdefault(record.stage, []).append(record)
        return stages


def read_run(folder: Path) -> RecordedRun:
    """Read a run's folder.

    Raises:
        UserError: if it holds no run, or a run that has recorded nothing yet.
    """
    records = read_metrics(folder)
    manifest = Manifest.read(folder)
    text, recipe = recorded_recipe(folder)
    after_step = manifest.launches[0].after_step if manifest.launches else 0
    return RecordedRun(
        folder=folder,
        records=records,
        manifest=manifest,
        recipe=recipe,
        recipe_text=text,
        health=read_health(folder),
        examples=read_mask_examples(folder),
        tasks=read_task_metrics(folder),
        parent=_parent(folder, recipe, after_step),
    )


def recorded_recipe(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """A run's resolved recipe, as text and as its tree; nothing of both where it is lost."""
    try:
        text = read_regular(folder / CONFIG).decode()
        return text, as_dict(yaml.safe_load(text))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return "", {}


def _parent(folder: Path, recipe: Mapping[str, Any], after_step: int) -> Parent | None:
    for key, path in _origins(recipe):
        for place in _places(folder, path):
            # The run may be gone, or be read while it is made: its child is drawn all the same.
            with contextlib.suppress(UserError, OSError):
                records = read_metrics(place)
                last = _step_of(path) if key == "init_from" else after_step
                kept = [record for record in records if last is None or record.step <= last]
                if kept:
                    return Parent(name=place.resolve().name, key=key, records=kept)
    return None


def _origins(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Where the recipe takes weights from, as far as it names a path."""
    start = recipe.get("start_from")
    if isinstance(start, list) and start and isinstance(start[0], str):
        yield "start_from", Path(start[0])
    init = recipe.get("init_from")
    if isinstance(init, dict) and isinstance(init.get("checkpoint"), str):
        yield "init_from", Path(init["checkpoint"])


def _places(folder: Path, path: Path) -> Iterator[Path]:
    """The run folders that a checkpoint's path may lie in, but for the run's own.

    A relative path was given where the run was launched: here, or above the folder of runs.
    """
    for base in (Path(), folder.resolve().parent.parent):
        whole = base / path
        for place in (whole, whole.parent, whole.parent.parent):
            if (place / METRICS).is_file() and place.resolve() != folder.resolve():
                yield place


def _step_of(path: Path) -> int | None:
    """The update of a checkpoint that is named for it."""
    number = path.name.removeprefix("step-").removesuffix(".pt")
    return int(number) if path.name.startswith("step-") and number.isdecimal() else None
