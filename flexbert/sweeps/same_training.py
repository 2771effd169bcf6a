"""Points of a sweep that train the same: what they differ in changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flexbert.config.by_metric import is_own_metric
from flexbert.config.clock import StageClock
from flexbert.config.encode import encode
from flexbert.config.fields import OPERATIONAL
from flexbert.config.keys import role_of
from flexbert.config.layer_plan import layer_plan
from flexbert.config.layer_windows import Window
from flexbert.config.recipe import Recipe
from flexbert.config.tree import changed_keys, flatten
from flexbert.errors import ConfigError
from flexbert.schedule.stages import Stage, all_stages
from flexbert.sweeps.measure_names import is_speed
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.runs import SweepRun
from flexbert.sweeps.sweep_file import Sweep

# Operational, since a resumed run may have other paths of the same; another corpus or other code is
# another training.
_PATHS = ("path", "remote")
_OF_WINDOWS = ("model.attention.windows", "model.attention.rope.theta")
# Nodes that stand for what they come to: the curves, the batches, the plan of layers.
_REPLACED = (
    *("schedule", "weight_decay_schedule", "mask_rate_schedule", "batch.warmup"),
    *_OF_WINDOWS,
)
_WHERE_IT_STOPS = ("evaluation", "checkpoints.interval")
# A stage of up to twice as many updates is compared at each of them; of a longer one so many at its
# beginning, and so many over its whole length.
_UPDATES = 500


def same_trainings(sweep: Sweep, runs: Sequence[SweepRun]) -> Iterator[str]:
    """Hold every point against the others, with one seed of all.

    Two may train the same where it is speed that is measured, or what is measured by: that is
    noted.

    Args:
        runs: of all points, each with all seeds.

    Yields:
        notes.

    Raises:
        ConfigError: if two points train the same, and are measured the same.
    """
    known: dict[str, list[tuple[SweepRun, list[Any]]]] = {}
    noted: set[tuple[str, ...]] = set()
    for run in runs:
        if run.seed != sweep.seeds[0]:
            continue
        alike = known.setdefault(_training(run), [])
        curves = _curves(run)
        before = next((other for other, same in alike if same == curves), None)
        if before is None:
            alike.append((run, curves))
            continue
        changed = tuple(_changed(before, run))
        other_windows = _windows(before) != _windows(run)
        note = _judged(sweep, before.point, run.point, changed, other_windows=other_windows)
        if note and changed not in noted:
            noted.add(changed)
            yield note


def _judged(
    sweep: Sweep,
    one: SweepPoint,
    other: SweepPoint,
    changed: Sequence[str],
    *,
    other_windows: bool,
) -> str:
    """The note on two points that train the same.

    Args:
        changed: keys of their recipes.
        other_windows: whether their layers have other windows, which all see whole sequences: one
            may be faster, and see less of a task's longer texts.
    """
    keys = ", ".join(_given(one, other)) or "list"
    points = f"{one.label} and {other.label}"
    if one.values == other.values:
        raise ConfigError("random.count", f"{one.label} is drawn twice; draw fewer points")
    if not changed:
        raise ConfigError(keys, f"changes nothing: {points} are the same recipe")
    if not all(
        role_of(Recipe, key) is OPERATIONAL or (other_windows and _is_below(key, _OF_WINDOWS))
        for key in changed
    ):
        raise ConfigError(keys, f"changes nothing: {points} train the same, update by update")
    of_evaluation = any(key.startswith("evaluation.") for key in changed)
    of_tasks = other_windows and any(map(_is_of_a_task, sweep.measures))
    if not of_evaluation and not of_tasks and not any(map(is_speed, sweep.measures)):
        why = ", since their windows reach over whole sequences" if other_windows else ""
        raise ConfigError(
            keys,
            f"changes nothing of {', '.join(sweep.measures)}: {points} train the same{why}; to "
            "compare their speed or memory, measure tokens_per_second or peak_memory",
        )
    what = "what is measured" if of_evaluation or of_tasks else "speed and memory"
    return f"note: {keys} changes {what}, and nothing of the training"


def _training(run: SweepRun) -> str:
    """All that decides what a run trains, but for its seed and its curves."""
    parts: list[Any] = []
    for stage in all_stages(run.recipe.stages):
        recipe = _nameless(stage.recipe)
        stops = recipe.evaluation.early_stopping is not None
        values = flatten(encode(recipe)).items()
        kept = sorted((key, value) for key, value in values if _decides(key, stops))
        longest = recipe.data.max_length
        layers = [
            (None if _sees_all(layer.window, longest) else layer.window, layer.theta)
            for layer in layer_plan(recipe.model)
        ]
        parts.append((stage.name, kept, layers, stage.batches))
    return repr(parts)


def _sees_all(window: Window, longest: int) -> bool:
    """Whether a window, half of it to each side, reaches from one end of a sequence to the other.

    Args:
        longest: tokens of the longest sequence.
    """
    return window is None or window // 2 >= longest - 1


def _windows(run: SweepRun) -> list[Window]:
    """Of every layer of every stage."""
    stages = all_stages(run.recipe.stages)
    return [layer.window for stage in stages for layer in layer_plan(stage.recipe.model)]


def _curves(run: SweepRun) -> list[Any]:
    """What schedules set over the whole run."""
    return [
        (
            stage.recipe.schedule.multiplier(clock),
            stage.weight_decay(clock),
            stage.mask_rate(clock.tokens, clock.updates),
        )
        for stage in all_stages(run.recipe.stages)
        for clock in _clocks(stage)
    ]


def _clocks(stage: Stage) -> Iterator[StageClock]:
    """At the beginnings of updates, as if rows were full."""
    count = stage.nominal_updates
    step = max(1, count // _UPDATES)
    for update in sorted({*range(min(count, _UPDATES)), *range(0, count, step), count - 1}):
        yield stage.clock(stage.batches.rows_before(update) * stage.recipe.data.row_length, update)


def _decides(key: str, stops: bool) -> bool:
    """Whether what is trained depends on a key, and on more of it than curves and plans say.

    Args:
        stops: whether evaluations decide when a stage ends.
    """
    if _is_below(key, _REPLACED):
        return False
    if role_of(Recipe, key) is not OPERATIONAL or _is_below(key, ("plugins",)):
        return True
    if stops and _is_below(key, _WHERE_IT_STOPS):
        return True
    return _is_below(key, ("data",)) and key.rpartition(".")[2] in _PATHS


def _is_of_a_task(measure: str) -> bool:
    return "." in measure and not is_own_metric(measure) and not is_speed(measure)


def _is_below(key: str, nodes: Sequence[str]) -> bool:
    return any(key == node or key.startswith(f"{node}.") for node in nodes)


def _changed(one: SweepRun, other: SweepRun) -> dict[str, tuple[Any, Any]]:
    """What differs between the recipes of two runs, by dotted key of a stage's recipe."""
    found: dict[str, tuple[Any, Any]] = {}
    for mine, others in zip(one.recipe.stages.values(), other.recipe.stages.values(), strict=True):
        found |= changed_keys(encode(_nameless(mine)), encode(_nameless(others)))
    return found


def _nameless(recipe: Recipe) -> Recipe:
    """The recipe but for what every run of a sweep has of its own."""
    return replace(recipe, run_name="any", runs_folder=Path(), seed=0)


def _given(one: SweepPoint, other: SweepPoint) -> list[str]:
    def differs(key: str) -> bool:
        missing: Mapping[str, Any] = {}
        return bool(one.values.get(key, missing) != other.values.get(key, missing))

    return [key for key in {**one.values, **other.values} if differs(key)]
