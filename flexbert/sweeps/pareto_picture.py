"""Quality against speed: a dot a point, and the front of those that no other one beats in both."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexbert.pictures import GREY, count_ticks, number_ticks, picture, tick_formatter
from flexbert.statistics import sample_deviation
from flexbert.sweeps.label_places import place_labels
from flexbert.sweeps.outcomes import COSTS, more_is_better
from flexbert.sweeps.point_looks import head, point_looks
from flexbert.sweeps.sweep_cells import INCOMPARABLE
from flexbert.sweeps.sweep_curves import DrawnRun
from flexbert.sweeps.sweep_table import SweepTable
from flexbert.text_tables import label_lines

_SPEED = "tokens_per_second"
# With more, those alone have a label that stand out or lie on the front.
_MOST_LABELS = 12
# Of a line, to keep labels off it.
_PARTS = 60
# Characters of a label's line.
_LINE = 36


@dataclass(frozen=True, kw_only=True)
class SpeedAndScore:
    """A point's place: means over seeds, with their standard deviations.

    Attributes:
        speed: tokens a second of all processes.
    """

    label: str
    speed: float
    score: float
    speed_spread: float
    score_spread: float


def draw_pareto(table: SweepTable, runs: Sequence[DrawnRun], path: Path) -> Path | None:
    """Draw the first measure that is no cost against speed; None without one, or without speeds.

    Points whose measure does not compare with the reference's are left out.

    Args:
        path: of the picture; its suffix decides the format.

    Raises:
        UserError: if the suffix names no format of pictures, or the file cannot be written.
    """
    measure = next((name for name in table.measures if name not in COSTS), None)
    places = [] if measure is None else _places(table, measure, runs)
    if measure is None or not places:
        return None
    looks = point_looks(table.best_first, table.reference, table.measures[0])
    upwards = more_is_better(measure)
    front = pareto_front(places, upwards)
    with picture(path, width=9, height=5.6) as figure:
        axes = figure.subplots()
        for place in sorted(places, key=lambda place: place.label in looks.named):
            axes.errorbar(
                place.speed,
                place.score,
                xerr=place.speed_spread or None,
                yerr=place.score_spread or None,
                color=looks.colors[place.label],
                marker="o",
                markersize=5,
                elinewidth=0.9,
                alpha=0.75 if place.label not in looks.named else 1.0,
            )
        axes.plot(
            [place.speed for place in front],
            [place.score for place in front],
            color=GREY,
            linestyle="--",
            linewidth=1,
            zorder=1,
        )
        axes.margins(0.12)
        axes.set_xlabel("tokens a second (faster to the right)")
        axes.set_ylabel(f"{measure} ({'better up' if upwards else 'better down'})")
        axes.xaxis.set_major_formatter(tick_formatter(count_ticks))
        axes.yaxis.set_major_formatter(tick_formatter(number_ticks))
        axes.locator_params(axis="x", nbins=7)
        head(
            figure,
            f"{table.name}: {measure} against speed",
            "; ".join(filter(None, (looks.caption, _caption(places, front)))),
        )
        outstanding = {*looks.named, *(place.label for place in front)}
        labelled = [
            place for place in places if len(places) <= _MOST_LABELS or place.label in outstanding
        ]
        place_labels(
            axes,
            [(place.speed, place.score) for place in labelled],
            ["\n".join(label_lines(place.label, _LINE)) for place in labelled],
            [looks.colors[place.label] for place in labelled],
            list(_drawn_over(places, front)),
        )
    return path


def pareto_front(places: Sequence[SpeedAndScore], upwards: bool) -> list[SpeedAndScore]:
    """Those that no other one beats in one without being beaten in the other, the fastest first.

    Args:
        upwards: whether a larger score is the better one.
    """
    sign = -1 if upwards else 1
    front: list[SpeedAndScore] = []
    for place in sorted(places, key=lambda place: (-place.speed, sign * place.score)):
        if not front or sign * place.score < sign * front[-1].score:
            front.append(place)
    return front


def _places(table: SweepTable, measure: str, runs: Sequence[DrawnRun]) -> list[SpeedAndScore]:
    found = []
    for label, row in table.cells.items():
        cell = row[measure]
        speeds = [_speed(run) for run in runs if run.label == label and run.counts]
        known = [speed for speed in speeds if math.isfinite(speed)]
        if cell.mean is not None and known and cell.verdict != INCOMPARABLE:
            found.append(
                SpeedAndScore(
                    label=label,
                    speed=statistics.fmean(known),
                    score=cell.mean,
                    speed_spread=sample_deviation(known) or 0.0,
                    score_spread=cell.spread or 0.0,
                )
            )
    return found


def _drawn_over(
    places: Sequence[SpeedAndScore], front: Sequence[SpeedAndScore]
) -> Iterator[tuple[float, float]]:
    """Dots, bars and the front, as places that no label may cover."""
    for place in places:
        for part in np.linspace(-1, 1, _PARTS):
            yield place.speed + float(part) * place.speed_spread, place.score
            yield place.speed, place.score + float(part) * place.score_spread
    for one, other in itertools.pairwise(front):
        for part in np.linspace(0, 1, 2 * _PARTS):
            yield (
                one.speed + float(part) * (other.speed - one.speed),
                one.score + float(part) * (other.score - one.score),
            )


def _caption(places: Sequence[SpeedAndScore], front: Sequence[SpeedAndScore]) -> str:
    has_bars = any(place.score_spread or place.speed_spread for place in places)
    said = ["bars: standard deviation over seeds"] if has_bars else []
    # A single point has no line.
    said += ["dashed: what no other point beats in both"] if len(front) > 1 else []
    return "; ".join(said)


def _speed(run: DrawnRun) -> float:
    recorded = [record.numbers.get(_SPEED, math.nan) for record in run.recorded.records]
    finite = [value for value in recorded if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan
