"""Any runs as points and seeds: recipes that differ in nothing but the seed are one point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.tree import flatten
from flexbert.errors import UserError, did_you_mean
from flexbert.report.recorded_run import recorded_recipe
from flexbert.sweeps.group_names import group_names
from flexbert.sweeps.points import SweepPoint, listed_points
from flexbert.sweeps.sweep_file import DEFAULT_TOLERANCE

_SEED = "seed"
# What a run has of its own, and what changes no number that it records.
_OF_NO_POINT = (_SEED, "run_name", "runs_folder", "logging", "checkpoints", "timeouts")
# A longer list of differences is no name: the runs' own stands for it.
_LONGEST_LABEL = 60


@dataclass(frozen=True, kw_only=True)
class GroupedRun:
    """A run as one seed of a point."""

    name: str
    point: SweepPoint
    seed: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class RunGroups:
    """Runs by points and seeds, which a table and pictures are made of as of a sweep's.

    Attributes:
        seeds: that any run has.
        tolerance: by which share two counts may differ and be called equal.
        notes: what points differ in, where their names do not say it.
    """

    name: str
    runs: tuple[GroupedRun, ...]
    points: tuple[SweepPoint, ...]
    seeds: tuple[int, ...]
    measures: tuple[str, ...]
    reference: SweepPoint
    notes: tuple[str, ...]
    tolerance: float = DEFAULT_TOLERANCE


def group_runs(
    folders: Sequence[Path], measures: Sequence[str], reference: str | None = None
) -> RunGroups:
    """Group runs by their recorded recipes, the points in the order of their first runs.

    Args:
        reference: a point's label, or a run's name or folder; the first run's point by default.

    Raises:
        UserError: if there is one point alone, a recipe cannot be read, two runs are the same, or
            nothing has the reference's name.
    """
    recorded: dict[tuple[str, int], Path] = {}
    shapes: dict[str, dict[str, Any]] = {}
    for folder in dict.fromkeys(folders):
        seed, values = _seed_and_values(folder)
        shape = repr(sorted(values.items()))
        shapes.setdefault(shape, values)
        same = recorded.setdefault((shape, seed), folder)
        if same is not folder:
            raise UserError(f"{same} and {folder} have one recipe and one seed; give one of them")
    if len(shapes) == 1:
        raise UserError("the runs differ in nothing but their seeds: there is nothing to compare")
    own = {
        shape: [_name(at) for (of, _), at in recorded.items() if of == shape] for shape in shapes
    }
    names = dict(zip(own, group_names(list(own.values())), strict=True))
    points, notes = _points(shapes, names)
    runs = tuple(
        GroupedRun(name=_name(folder), point=points[shape], seed=seed, folder=folder)
        for (shape, seed), folder in recorded.items()
    )
    return RunGroups(
        name=f"{len(runs)} runs",
        runs=runs,
        points=tuple(points.values()),
        seeds=tuple(sorted({run.seed for run in runs})),
        measures=tuple(measures),
        reference=_reference(runs, reference),
        notes=tuple(notes),
    )


def _name(folder: Path) -> str:
    return folder.resolve().name


def _seed_and_values(folder: Path) -> tuple[int, dict[str, Any]]:
    """A run's seed, and by dotted key all else that makes its numbers."""
    _, recipe = recorded_recipe(folder)
    seed = recipe.get(_SEED)
    if type(seed) is not int:
        raise UserError(
            f"{folder}: no config.yaml with a seed can be read there, so it is no seed of a point; "
            "flexbert plot draws it"
        )
    return seed, flatten({key: recipe[key] for key in recipe if key not in _OF_NO_POINT})


def _points(
    shapes: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> tuple[dict[str, SweepPoint], list[str]]:
    """The point of each shape, named by what differs or, where that is long, by its runs."""
    keys = _differing(list(shapes.values()))
    own = [{key: shape[key] for key in keys if key in shape} for shape in shapes.values()]
    points = listed_points(own)
    if max(len(point.label) for point in points) <= _LONGEST_LABEL:
        return dict(zip(shapes, points, strict=True)), []
    points = tuple(
        SweepPoint(values=values, label=names[key]) for key, values in zip(shapes, own, strict=True)
    )
    notes = []
    for key in keys:
        listed: dict[str, list[str]] = {}
        for point in points:
            said = str(point.values.get(key, "not there"))
            listed.setdefault(said, []).append(point.label)
        sides = "; ".join(f"{value} ({', '.join(of)})" for value, of in listed.items())
        notes.append(f"{key}: {sides}")
    return dict(zip(shapes, points, strict=True)), notes


def _differing(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values differ, without those that another component brings with it."""
    keys = dict.fromkeys(key for shape in shapes for key in shape)
    missing = object()
    changed = [
        key
        for key in keys
        if any(shape.get(key, missing) != shapes[0].get(key, missing) for shape in shapes)
    ]
    return [key for key in changed if not _is_brought(key, changed, shapes)]


def _is_brought(key: str, changed: Sequence[str], shapes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a node above has another ``name``, and all that have one name have one value."""
    for name in _names_above(key):
        if name in changed and name != key:
            values: dict[Any, set[str]] = {}
            for shape in shapes:
                values.setdefault(shape.get(name), set()).add(repr(shape.get(key)))
            if all(len(found) == 1 for found in values.values()):
                return True
    return False


def _names_above(key: str) -> Iterator[str]:
    parts = key.split(".")
    for count in range(1, len(parts)):
        yield ".".join([*parts[:count], "name"])


def _reference(runs: Sequence[GroupedRun], given: str | None) -> SweepPoint:
    if given is None:
        return runs[0].point
    for run in runs:
        if given in (run.point.label, run.name, str(run.folder)):
            return run.point
    known = {name for run in runs for name in (run.point.label, run.name)}
    raise UserError(f"--reference {given}: no such point or run; {did_you_mean(given, known)}")
