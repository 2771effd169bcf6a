"""Records of a run as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flexbert.pictures import as_count

WIDTH = 100
_LONGEST_NAME = 16


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run stands.

    Attributes:
        step: updates of the whole run.
        tokens: real tokens of the whole run.
        fraction: of the run that is done.
        seconds: of training so far, earlier launches included.
        left: seconds; None where that is not known yet.
    """

    stage: str
    step: int
    tokens: int
    fraction: float
    seconds: float
    left: float | None

    @property
    def times(self) -> str:
        """Time gone and time left."""
        left = "time left unknown" if self.left is None else f"{duration_text(self.left)} left"
        return f"{duration_text(self.seconds)}, {left}"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What a line shows of an interval of training; a loss of None: every update was skipped."""

    loss: float | None
    lr: float
    tokens_per_second: float
    mfu: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """What an evaluation found; None where not one token was masked."""

    loss: float | None
    accuracy: float | None


class LinePart(NamedTuple):
    """A part of a line.

    Attributes:
        rank: where the line is too long, parts of the highest are left out first; those of 0 stay.
    """

    text: str
    rank: int = 0


def train_line(standing: Standing, interval: Interval, width: int = WIDTH) -> str:
    """A record of training."""
    parts = [
        *_place(standing),
        _tokens(standing),
        LinePart(f"loss {_loss(interval.loss)}"),
        LinePart(f"lr {interval.lr:.2e}", 3),
        LinePart(f"{as_count(interval.tokens_per_second):>5} tok/s", 1),
        LinePart(f"mfu {interval.mfu:>3.0%}", 5),
        LinePart(standing.times),
    ]
    return fitted(parts, width)


def eval_lines(
    standing: Standing, whole: Score, by_source: Mapping[str, Score], width: int = WIDTH
) -> list[str]:
    """An evaluation: the whole, and where there are several sources each of them."""
    scores = {"": whole, **(by_source if len(by_source) > 1 else {})}
    name_width = min(_LONGEST_NAME, max(map(len, scores)))
    lines = []
    for name, score in scores.items():
        source = f" {_short(name, name_width):<{name_width}}" if name_width else ""
        result = f"eval{source}  nothing to predict: no token of it was masked"
        if score.accuracy is not None:
            result = f"eval{source}  loss {_loss(score.loss)}  accuracy {score.accuracy:.1%}"
        lines.append(fitted([*_place(standing), LinePart(result)], width))
    return lines


def alive_line(
    standing: Standing, doing: str, tokens_per_second: float | None, width: int = WIDTH
) -> str:
    """A sign of life between two records.

    Args:
        doing: what goes on; empty where an update has just ended.
        tokens_per_second: of late; None where that is not known yet.
    """
    parts = _place(standing)
    if doing:
        parts.append(LinePart(doing))
    else:
        parts.append(_tokens(standing))
        if tokens_per_second is not None:
            parts.append(LinePart(f"{as_count(tokens_per_second):>5} tok/s", 1))
    return fitted([*parts, LinePart(standing.times)], width)


def _place(standing: Standing) -> list[LinePart]:
    # A hundred percent is the end, and not the last update but one.
    percent = int(100 * standing.fraction)
    return [
        LinePart(_short(standing.stage, _LONGEST_NAME)),
        LinePart(f"{percent:>3}%", 2),
        LinePart(f"step {standing.step:>6,}"),
    ]


def _tokens(standing: Standing) -> LinePart:
    return LinePart(f"{as_count(standing.tokens):>5} tok", 4)


def _loss(loss: float | None) -> str:
    return "none: all skipped" if loss is None else f"{loss:.4f}"


def fitted(parts: Sequence[LinePart], width: int) -> str:
    """The parts in a line of at most this width."""
    kept = list(parts)
    while len(line := "  ".join(part.text for part in kept)) > width:
        last = max(kept, key=lambda part: part.rank)
        if last.rank == 0:
            return f"{line[: width - 3]}..."
        kept.remove(last)
    return line


def duration_text(seconds: float) -> str:
    """A length of time: 42s, 12m34s, 28h40m, 12d04h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    minutes = round(whole / 60)
    if minutes < 100 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    hours = round(whole / 3600)
    return f"{hours // 24}d{hours % 24:02}h"


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
