"""What was held equal in a sweep, and what could not be, in the lines that a table has below it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from flexbert.config.encode import encode
from flexbert.config.tree import flatten
from flexbert.sweeps.conditions import (
    ALL_FLOPS,
    ORDER,
    TOKENS,
    UPDATES,
    Finding,
    PointConditions,
    compare_conditions,
    compare_lengths,
    conditions_of,
)
from flexbert.sweeps.counts import KnownCorpora
from flexbert.sweeps.points import shared_label
from flexbert.sweeps.recorded_conditions import (
    compare_recorded,
    read_conditions,
)
from flexbert.sweeps.runs import SweepRun
from flexbert.sweeps.sweep_file import Sweep

# Finished runs have recorded what plans estimate.
_LENGTHS = (TOKENS, UPDATES, ALL_FLOPS)
# What the recipes say, by the point's label; none of the reference.
Planned: TypeAlias = dict[str, list[Finding]]
# What finished runs have recorded, by label and seed.
Recorded: TypeAlias = dict[str, dict[int, list[Finding]]]


def planned_conditions(sweep: Sweep, runs: Sequence[SweepRun]) -> list[str]:
    """What is known before a run is trained: widths that were matched, and what differs.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    planned = _planned(sweep, _conditions(runs))
    return [*_matched(sweep, runs), *_lines(sweep, planned, {})]


def held_conditions(
    sweep: Sweep, runs: Sequence[SweepRun], finished: Sequence[SweepRun]
) -> list[str]:
    """The same with what finished runs have recorded.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    conditions = _conditions(runs)
    planned = _planned(sweep, conditions)
    recorded = _recorded(sweep, conditions, finished)
    for label, by_seed in recorded.items():
        if by_seed:
            planned[label] = [each for each in planned[label] if each.condition not in _LENGTHS]
            # An order that was meant to differ does.
            if any(each.condition == ORDER and each.problem for each in planned[label]):
                recorded[label] = {
                    seed: [each for each in found if each.condition != ORDER]
                    for seed, found in by_seed.items()
                }
    return [*_matched(sweep, runs), *_lines(sweep, planned, recorded)]


def _conditions(runs: Sequence[SweepRun]) -> dict[str, PointConditions]:
    """Of each point, by its label: those of its first seed."""
    corpora = KnownCorpora()
    return {label: conditions_of(run.recipe, corpora) for label, run in _first_runs(runs).items()}


def _first_runs(runs: Sequence[SweepRun]) -> dict[str, SweepRun]:
    """Each point's run with its first seed, by its label."""
    return {run.point.label: run for run in reversed(runs)}


def _planned(sweep: Sweep, conditions: Mapping[str, PointConditions]) -> Planned:
    reference = conditions[sweep.reference.label]
    return {
        label: list(compare_conditions(conditions[label], reference, sweep.tolerance))
        for label in _others(sweep)
    }


def _recorded(
    sweep: Sweep, conditions: Mapping[str, PointConditions], finished: Sequence[SweepRun]
) -> Recorded:
    found = {(run.point.label, run.seed): read_conditions(run.folder) for run in finished}
    recorded: Recorded = {label: {} for label in _others(sweep)}
    base = sweep.reference.label
    for label, by_seed in recorded.items():
        for seed in sweep.seeds:
            own, reference = found.get((label, seed)), found.get((base, seed))
            if own is None or reference is None:
                continue
            by_seed[seed] = [
                *compare_lengths(
                    own.length(conditions[label].counts.flops_per_token),
                    reference.length(conditions[base].counts.flops_per_token),
                    sweep.tolerance,
                ),
                *compare_recorded(own, reference),
            ]
    return recorded


def _others(sweep: Sweep) -> list[str]:
    return [point.label for point in sweep.points if point.label != sweep.reference.label]


def _matched(sweep: Sweep, runs: Sequence[SweepRun]) -> Iterator[str]:
    """Which sizes a point has that are not the reference's."""
    first = _first_runs(runs)
    reference = flatten(encode(first[sweep.reference.label].recipe.first))
    for point in sweep.points:
        matched = first[point.label].matched
        changed = {key: value for key, value in matched.items() if value != reference[key]}
        if sweep.match is not None and changed:
            shown = ", ".join(
                f"{key} {value}, not {reference[key]}" for key, value in changed.items()
            )
            yield f"{point.label}: {shown}, to match {sweep.match.of}"


def _lines(sweep: Sweep, planned: Planned, recorded: Recorded) -> Iterator[str]:
    """A line for all points that differ in the same way, and one for what is equal in all."""
    differing: dict[str, list[str]] = {}
    for label, findings in planned.items():
        problems = [each.problem for each in findings if each.problem]
        problems += _of_seeds(recorded.get(label, {}))
        if problems:
            differing.setdefault("; ".join(problems), []).append(label)
    for text, labels in differing.items():
        for shown in _shown(sweep, labels):
            yield f"{shown}: {text}"
    equal = _held_everywhere(planned, recorded)
    if equal:
        yield f"equal (counts within {100 * sweep.tolerance:g} percent): {', '.join(equal)}"


def _shown(sweep: Sweep, labels: Sequence[str]) -> list[str]:
    """Points by what they alone have in common, by their names, or one by one."""
    others = [point for point in sweep.points if point.label in _others(sweep)]
    shared = shared_label(others, [point for point in others if point.label in labels])
    if shared is not None:
        return [f"{shared} ({len(labels)} points)"]
    return [*labels] if any("=" in label for label in labels) else [", ".join(labels)]


def _held_everywhere(planned: Planned, recorded: Recorded) -> list[str]:
    """The conditions that every point has as the reference has them; once runs are finished, every
    point that has one."""
    begun = [label for label in planned if recorded.get(label)] or list(planned)
    held: list[dict[str, bool]] = []
    for label in begun:
        findings = [planned[label], *recorded.get(label, {}).values()]
        own: dict[str, bool] = {}
        for each in itertools.chain.from_iterable(findings):
            own[each.condition] = own.get(each.condition, True) and each.problem is None
        held.append(own)
    names = dict.fromkeys(name for own in held for name in own)
    return [name for name in names if all(own.get(name, False) for own in held)]


def _of_seeds(by_seed: Mapping[int, Sequence[Finding]]) -> Iterator[str]:
    """Each problem once, with the seeds that have it if not all do."""
    seeds: dict[str, list[int]] = {}
    for seed, findings in by_seed.items():
        for each in findings:
            if each.problem:
                seeds.setdefault(each.problem, []).append(seed)
    for problem, own in seeds.items():
        some = "" if len(own) == len(by_seed) else f" (seed {', '.join(map(str, own))})"
        yield f"{problem}{some}"
