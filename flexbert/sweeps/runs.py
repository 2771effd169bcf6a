"""The runs of a sweep, each resolved and held against the others before the first begins."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.errors import ConfigError, UserError
from flexbert.recipes import load_recipe
from flexbert.sweeps.matching import matched_values
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.sweep_file import Sweep

RUNS = "runs"
_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One point of a sweep, with one seed.

    Attributes:
        overrides: of the base, as a command line has them.
        matched: those of them that ``match`` gave the point, by dotted key.
    """

    name: str
    point: SweepPoint
    seed: int
    overrides: tuple[str, ...]
    recipe: LoadedRecipe
    matched: Mapping[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.recipe.first.run_folder


def resolve_runs(sweep: Sweep, folder: Path) -> list[SweepRun]:
    """Every run of a sweep, the points in their order, each with all of its seeds.

    Args:
        folder: of the sweep; the runs' folders lie below it.

    Raises:
        UserError: naming the first run whose recipe is wrong.
        ConfigError: if what two points differ in changes nothing, or they cannot be matched.
    """

    def overrides_of(point: SweepPoint, more: Mapping[str, Any]) -> tuple[str, ...]:
        values: dict[str, Any] = {}
        for own in (sweep.overrides, point.values, more, {"runs_folder": str(folder / RUNS)}):
            for key, value in own.items():
                values.pop(key, None)  # in its place: a node's name drops what was given before it
                values[key] = value
        return tuple(f"{key}={value_text(value)}" for key, value in values.items())

    def load(point: SweepPoint, more: Mapping[str, int]) -> LoadedRecipe:
        one = {"seed": sweep.seeds[0], "run_name": "matched"}
        return load_recipe(sweep.base, overrides_of(point, {**more, **one}))

    matched = matched_values(sweep, load)
    total = len(sweep.points) * len(sweep.seeds)
    names = folder_names(sweep)
    runs: list[SweepRun] = []
    for point in sweep.points:
        for seed in sweep.seeds:
            name = names[point.label, seed]
            own = matched.get(point.label, {})
            overrides = overrides_of(point, {**own, "seed": seed, "run_name": name})
            try:
                recipe = load_recipe(sweep.base, overrides)
            except UserError as error:
                raise UserError(f"run {len(runs) + 1} of {total} ({name}): {error}") from None
            runs.append(
                SweepRun(
                    name=name,
                    point=point,
                    seed=seed,
                    overrides=overrides,
                    recipe=recipe,
                    matched=own,
                )
            )
    _check_distinct(sweep, runs)
    return runs


def folder_names(sweep: Sweep) -> dict[tuple[str, int], str]:
    """The name of each run, by its point's label and its seed: what tells it from the others."""
    names: dict[tuple[str, int], str] = {}
    for point in sweep.points:
        for seed in sweep.seeds:
            text = f"{point.label},seed={seed}" if len(sweep.seeds) > 1 else point.label
            readable = text.replace("=", "-").replace(",", "_")
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", readable).strip("-.")
            if len(name) > _LONGEST_NAME or name in names.values() or name != readable:
                digest = hashlib.sha256(text.encode()).hexdigest()[:8]
                name = f"{name[: _LONGEST_NAME - 9]}-{digest}"
            names[point.label, seed] = name
    return names


def value_text(value: Any) -> str:
    """A value as the command line takes it: YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True
    ).strip()
    return text.removesuffix("\n...").strip()


def _check_distinct(sweep: Sweep, runs: Sequence[SweepRun]) -> None:
    """Raises ConfigError where two points, with one seed, are one recipe."""
    seen: dict[str, SweepPoint] = {}
    for run in runs:
        if run.seed != sweep.seeds[0]:
            continue
        shape = repr([_shape(recipe) for recipe in run.recipe.stages.values()])
        before = seen.setdefault(shape, run.point)
        if before is not run.point:
            keys = [
                key
                for key in {**before.values, **run.point.values}
                if before.values.get(key) != run.point.values.get(key)
            ]
            raise ConfigError(
                ", ".join(keys) or "list",
                f"changes nothing: {before.label} and {run.point.label} are the same recipe",
            )


def _shape(recipe: Recipe) -> Recipe:
    """The recipe but for what every run of a sweep has of its own."""
    return replace(recipe, run_name="any", runs_folder=Path(), seed=0)
