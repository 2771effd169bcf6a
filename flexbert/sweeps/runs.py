"""The runs of a sweep, each resolved before the first begins."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.yaml_text import value_text
from flexbert.errors import ConfigError, UserError
from flexbert.recipes import load_recipe
from flexbert.sweeps.matching import matched_values
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.sweep_file import Sweep

RUNS = "runs"
_LONGEST_NAME = 100
# What a sweep gives its runs, and how that is said.
_OF_A_RUN = {
    "seed": "give seeds: every point is trained with each",
    "run_name": "is the sweep's to give: what tells a run from the others",
    "runs_folder": "is the sweep's to give: --out is its folder",
}


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
        ConfigError: if a point gives what runs have of their own, such as their names, or points
            cannot be matched.
    """

    def overrides_of(point: SweepPoint, more: Mapping[str, Any]) -> tuple[str, ...]:
        place = {"runs_folder": str(folder / RUNS)}
        values = {**sweep.overrides, **point.values, **more, **place}
        return tuple(f"{key}={value_text(value)}" for key, value in values.items())

    def load(point: SweepPoint, more: Mapping[str, int]) -> LoadedRecipe:
        one = {"seed": sweep.seeds[0], "run_name": "matched"}
        return load_recipe(sweep.base, overrides_of(point, {**more, **one}))

    matched = matched_values(sweep, load)
    total = len(sweep.points) * len(sweep.seeds)
    names = folder_names(sweep)
    runs: list[SweepRun] = []
    for point in sweep.points:
        _check_own(sweep, point)
        for seed in sweep.seeds:
            name = names[point.label, seed]
            own = matched.get(point.label, {})
            overrides = overrides_of(point, {**own, "seed": seed, "run_name": name})
            try:
                recipe = load_recipe(sweep.base, overrides)
                _check_one(recipe)
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
    return runs


def runs_below(paths: Sequence[Path]) -> list[Path]:
    """Folders of runs, where those of sweeps stand for all of their runs.

    Raises:
        UserError: if a sweep's folder has no run.
    """
    found: list[Path] = []
    for path in paths:
        below = path / RUNS
        own = sorted(each for each in below.iterdir() if each.is_dir()) if below.is_dir() else []
        if below.is_dir() and not own:
            raise UserError(f"{below}: no run there")
        found += own or [path]
    return found


def folder_names(sweep: Sweep) -> dict[tuple[str, int], str]:
    """The name of each run, by its point's label and its seed: what tells it from the others."""
    each = [(point.label, seed) for point in sweep.points for seed in sweep.seeds]
    several = len(sweep.seeds) > 1
    texts = [f"{label},seed={seed}" if several else label for label, seed in each]
    return dict(zip(each, names_of_folders(texts), strict=True))


def names_of_folders(texts: Sequence[str]) -> list[str]:
    """Texts as names of folders, no two alike."""
    names: list[str] = []
    for text in texts:
        readable = text.replace("=", "-").replace(" ", "-").replace(",", "_")
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", readable).strip("-.")
        if len(name) > _LONGEST_NAME or name in names or name != readable:
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            name = f"{name[: _LONGEST_NAME - 9]}-{digest}"
        names.append(name)
    return names


def _check_own(sweep: Sweep, point: SweepPoint) -> None:
    """Raises ConfigError where a point gives what every run has of its own."""
    for key, instead in _OF_A_RUN.items():
        if key in sweep.overrides or key in point.values:
            raise ConfigError(key, instead)


def _check_one(recipe: LoadedRecipe) -> None:
    if len(recipe.runs()) > 1:
        raise ConfigError("start_from", "is one checkpoint of a run; make it a key of the sweep")
