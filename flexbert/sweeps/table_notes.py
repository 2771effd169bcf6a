"""What a reader of a sweep's table has to know: what is missing, and what a verdict is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flexbert.statistics import CONFIDENCE
from flexbert.sweeps.outcomes import COSTS, RunOutcome
from flexbert.sweeps.sweep_cells import Cells, ComparedPoints, Incomparable

# Lines about single points; beyond, they are counted.
_MOST_LINES = 10
# From here on the best point is one that chance has favoured.
_MANY_POINTS = 5
_LOSS = "eval_loss"


def table_notes(
    sweep: ComparedPoints,
    cells: Cells,
    outcomes: Sequence[RunOutcome],
    unfinished: Mapping[tuple[str, int], str],
) -> Iterator[str]:
    """A line for everything that makes numbers of the table mean less than they seem to.

    Args:
        unfinished: what is known of runs without an outcome, by point's label and seed.
    """
    yield from _short(_missing(sweep, outcomes, unfinished), "points lack runs")
    yield from _short(_diverged(sweep, cells), "cells leave out runs that diverged")
    same = _same_everywhere(sweep, outcomes)
    yield from _of_no_effect(sweep, same)
    yield from _not_from_context(cells, outcomes)
    yield from _without_interval(sweep, cells, same)
    yield from _among_all(sweep, cells)
    if len(cells) >= _MANY_POINTS:
        yield (
            f"the best of {len(cells)} points looks better here than it is: other seeds, for it "
            "and the reference alone, say by how much"
        )


def incomparable_notes(sweep: ComparedPoints, incomparable: Incomparable) -> Iterator[str]:
    """What does not compare with the reference's, and why: in a line for points of one reason."""
    measures: dict[tuple[str, str], list[str]] = {}
    for (label, measure), why in incomparable.items():
        measures.setdefault((label, why), []).append(measure)
    labels: dict[tuple[str, str], list[str]] = {}
    for (label, why), own in measures.items():
        labels.setdefault((", ".join(own), why), []).append(label)
    for (names, why), points in labels.items():
        does = "do not compare with those" if ", " in names else "does not compare with that"
        yield f"{', '.join(points)}: {names} {does} of {sweep.reference.label}: {why}"


def _missing(
    sweep: ComparedPoints,
    outcomes: Sequence[RunOutcome],
    unfinished: Mapping[tuple[str, int], str],
) -> Iterator[str]:
    there = {(each.run.point.label, each.run.seed) for each in outcomes}
    for point in sweep.points:
        lacking: dict[str, list[int]] = {}
        for seed in sweep.seeds:
            if (point.label, seed) not in there:
                said = unfinished.get((point.label, seed), "no run")
                lacking.setdefault(said, []).append(seed)
        if lacking:
            listed = "; ".join(f"{_seeds(seeds)}: {said}" for said, seeds in lacking.items())
            yield f"{point.label}, {listed}"


def _diverged(sweep: ComparedPoints, cells: Cells) -> Iterator[str]:
    for label, row in cells.items():
        for measure in sweep.measures:
            cell = row[measure]
            if cell.diverged:
                rest = "; its mean leaves that out, and flatters it" if cell.seeds else ""
                yield f"{label}: {measure} is no finite number with {_seeds(cell.diverged)}{rest}"


def length_note(sweep: ComparedPoints, outcomes: Sequence[RunOutcome]) -> Iterator[str]:
    """Whether runs were trained on numbers of tokens that are not equal, in a line."""
    tokens = sorted({each.tokens for each in outcomes})
    if tokens and tokens[-1] - tokens[0] > sweep.tolerance * tokens[-1]:
        shortest = min(outcomes, key=lambda each: each.tokens)
        yield (
            f"runs were trained on {tokens[0]:,} to {tokens[-1]:,} tokens, "
            f"{shortest.run.point.label} with seed {shortest.run.seed} on the fewest: that alone "
            "makes a difference"
        )


def _same_everywhere(sweep: ComparedPoints, outcomes: Sequence[RunOutcome]) -> dict[str, list[str]]:
    """Measures that a point has exactly as the reference has them, in each of several seeds."""
    values = {(each.run.point.label, each.run.seed): each.values for each in outcomes}
    base = sweep.reference.label
    found: dict[str, list[str]] = {}
    for point in sweep.points:
        pairs = [
            (values[point.label, seed], values[base, seed])
            for seed in sweep.seeds
            if point.label != base and {(point.label, seed), (base, seed)} <= values.keys()
        ]
        for measure in sweep.measures:
            # Costs may well be equal, and say nothing of the training.
            is_same = all(own[measure] == reference[measure] for own, reference in pairs)
            if measure not in COSTS and len(pairs) > 1 and is_same:
                found.setdefault(point.label, []).append(measure)
    return found


def _of_no_effect(sweep: ComparedPoints, same: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Points that come to the same as the reference: seeds do not repeat a difference."""
    asked = [measure for measure in sweep.measures if measure not in COSTS]
    for label, measures in same.items():
        rest = ": what differs changes nothing that is measured" if measures == asked else ""
        names = ", ".join(measures)
        yield f"{label}: the same {names} as {sweep.reference.label} in every seed{rest}"


def _not_from_context(cells: Cells, outcomes: Sequence[RunOutcome]) -> Iterator[str]:
    """Points whose mean loss is one that token frequencies alone have."""
    entropies = {
        each.run.point.label: each.unigram_entropy
        for each in outcomes
        if each.unigram_entropy is not None
    }
    labels: dict[float, list[str]] = {}
    for label, row in cells.items():
        entropy = entropies.get(label)
        mean = row[_LOSS].mean if _LOSS in row else None
        if entropy is not None and mean is not None and mean >= entropy:
            labels.setdefault(entropy, []).append(label)
    for entropy, own in labels.items():
        its, it_has = ("its", "it has") if len(own) == 1 else ("their", "they have")
        yield (
            f"{', '.join(own)}: {its} loss is not below the entropy of single tokens "
            f"({entropy:.2f}): {it_has} not learned from context"
        )


def _without_interval(
    sweep: ComparedPoints, cells: Cells, same: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """What differences have no interval, and why: in one line where it is so of all.

    Args:
        same: what is as the reference has it, which is said before.
    """
    without: dict[str, dict[str, None]] = {}
    for label, row in cells.items():
        for measure in sweep.measures:
            difference = row[measure].difference
            is_said = measure in same.get(label, ())
            if difference is not None and difference.problem is not None and not is_said:
                without.setdefault(difference.problem, {})[label] = None
    for problem, labels in without.items():
        of_all = len(labels) == len(cells) - 1
        of_which = "" if of_all else f" for {', '.join(labels)}"
        yield f"no interval{of_which}: {problem}"


def _among_all(sweep: ComparedPoints, cells: Cells) -> Iterator[str]:
    """What verdicts mean among several."""
    compared = [cell for row in cells.values() for cell in row.values() if cell.p is not None]
    most = max(
        sum(row[measure].p is not None for row in cells.values()) for measure in sweep.measures
    )
    if most > 1:
        yield (
            f"p, better and worse are by Holm's method over the {most} differences of a measure, "
            f"so that all hold together with {CONFIDENCE:.0%} confidence; an interval is for itself"
        )
    if any(cell.verdict in ("better by itself", "worse by itself") for cell in compared):
        yield (
            "by itself: the interval leaves out zero, which among several differences one does by "
            "chance more easily; more seeds would tell"
        )
    if any(cell.difference and cell.difference.needed for cell in compared):
        yield "needs: seeds that would show a difference of this size in four of five experiments"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _short(lines: Iterator[str], what: str) -> Iterator[str]:
    found = list(lines)
    yield from found[:_MOST_LINES]
    if len(found) > _MOST_LINES:
        yield f"{len(found) - _MOST_LINES} more {what}"
