"""What was held equal in a sweep, and what could not be, in the lines that a table has below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from flexbert.config.encode import encode
from flexbert.config.tree import flatten
from flexbert.sweeps.conditions import (
    ORDER,
    TOKENS,
    UPDATES,
    Finding,
    compare_conditions,
    conditions_of,
)
from flexbert.sweeps.counts import KnownCorpora
from flexbert.sweeps.recorded_conditions import (
    RecordedConditions,
    compare_recorded,
    read_conditions,
)
from flexbert.sweeps.runs import SweepRun
from flexbert.sweeps.sweep_file import Sweep

# What the recipes say, by the point's label; none of the reference.
Planned: TypeAlias = dict[str, list[Finding]]
# What finished runs have recorded, by label and seed.
Recorded: TypeAlias = dict[str, dict[int, list[Finding]]]


def plan_notes(sweep: Sweep, runs: Sequence[SweepRun]) -> list[str]:
    """What is known before a run is trained: widths that were matched, and what differs.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    planned = _planned(sweep, runs)
    return [*_matched(sweep, runs), *_lines(sweep, planned, {})]


def table_notes(
    sweep: Sweep, runs: Sequence[SweepRun], finished: Sequence[SweepRun]
) -> list[str]:
    """The same with what finished runs have recorded.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    planned = _planned(sweep, runs)
    recorded = _recorded(sweep, finished)
    for label, by_seed in recorded.items():
        if by_seed:
            # Lengths are known by now; an order that was meant to differ does.
            planned[label] = [
                each for each in planned[label] if each.condition not in (TOKENS, UPDATES)
            ]
            if any(each.condition == ORDER and each.problem for each in planned[label]):
                recorded[label] = {
                    seed: [each for each in found if each.condition != ORDER]
                    for seed, found in by_seed.items()
                }
    return [*_matched(sweep, runs), *_lines(sweep, planned, recorded)]


def _planned(sweep: Sweep, runs: Sequence[SweepRun]) -> Planned:
    corpora = KnownCorpora()
    first = {run.point.label: run for run in reversed(runs)}
    conditions = {label: conditions_of(run.recipe, corpora) for label, run in first.items()}
    reference = conditions[sweep.reference.label]
    return {
        point.label: list(
            compare_conditions(conditions[point.label], reference, sweep.tolerance)
        )
        for point in sweep.points
        if point != sweep.reference
    }


def _recorded(sweep: Sweep, finished: Sequence[SweepRun]) -> Recorded:
    found: dict[tuple[str, int], RecordedConditions] = {
        (run.point.label, run.seed): read_conditions(run.folder) for run in finished
    }
    return {
        point.label: {
            seed: list(compare_recorded(own, reference, sweep.tolerance))
            for seed in sweep.seeds
            if (own := found.get((point.label, seed))) is not None
            and (reference := found.get((sweep.reference.label, seed))) is not None
        }
        for point in sweep.points
        if point != sweep.reference
    }


def _matched(sweep: Sweep, runs: Sequence[SweepRun]) -> Iterator[str]:
    """Which sizes a point has that are not the reference's."""
    first = {run.point.label: run for run in reversed(runs)}
    reference = flatten(encode(first[sweep.reference.label].recipe.first))
    for point in sweep.points:
        matched = first[point.label].matched
        changed = {key: value for key, value in matched.items() if value != reference[key]}
        if sweep.match is not None and changed:
            shown = ", ".join(f"{key} {value}, not {reference[key]}" for key, value in changed.items())
            yield f"{point.label}: {shown}, to match {sweep.match.of}"


def _lines(sweep: Sweep, planned: Planned, recorded: Recorded) -> Iterator[str]:
    """A line for each point that differs, and one for what is equal in all."""
    for label, findings in planned.items():
        problems = [each.problem for each in findings if each.problem is not None]
        problems += _of_seeds(recorded.get(label, {}))
        if problems:
            yield f"{label}: {'; '.join(problems)}"
    equal = _held_everywhere(planned, recorded)
    if equal:
        yield f"equal (counts within {100 * sweep.tolerance:g} percent): {', '.join(equal)}"


def _held_everywhere(planned: Planned, recorded: Recorded) -> list[str]:
    """The conditions that every point has as the reference has them; once runs are finished, every
    point that has one."""
    begun = [label for label in planned if recorded.get(label)] or list(planned)
    held: list[dict[str, bool]] = []
    for label in begun:
        own: dict[str, bool] = {}
        for each in (*planned[label], *(f for each in recorded.get(label, {}).values() for f in each)):
            own[each.condition] = own.get(each.condition, True) and each.problem is None
        held.append(own)
    names = dict.fromkeys(name for own in held for name in own)
    return [name for name in names if all(own.get(name, False) for own in held)]


def _of_seeds(by_seed: Mapping[int, Sequence[Finding]]) -> Iterator[str]:
    """Each problem once, with the seeds that have it if not all do."""
    seeds: dict[str, list[int]] = {}
    for seed, findings in by_seed.items():
        for each in findings:
            if each.problem is not None:
                seeds.setdefault(each.problem, []).append(seed)
    for problem, own in seeds.items():
        some = "" if len(own) == len(by_seed) else f" (seed {', '.join(map(str, own))})"
        yield f"{problem}{some}"
