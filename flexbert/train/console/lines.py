"""Records of a run as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flexbert.pictures import as_count

WIDTH = 100
_LONGEST_NAME = 16


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run stands.

    Attributes:
        fraction: of the run that is done.
        seconds: of training so far, earlier launches included.
        left: seconds; None where that is not known yet.
    """

    fraction: float
    seconds: float
    left: float | None

    @property
    def times(self) -> str:
        left = "time left unknown" if self.left is None else f"{duration_text(self.left)} left"
        return f"{duration_text(self.seconds)}, {left}"


class LinePart(NamedTuple):
    """A part of a line.

    Attributes:
        rank: where the line is too long, parts of the highest are left out first; those of 0 stay.
    """

    text: str
    rank: int = 0


def train_line(record: Mapping[str, Any], standing: Standing, width: int = WIDTH) -> str:
    """An interval of training: of a record, or of what is known between two of them."""
    parts = _place(record, standing)
    parts.append(LinePart(f"{as_count(record['tokens']):>5} tok", 4))
    if "loss" in record:
        parts.append(LinePart(f"loss {_loss(record['loss'])}"))
    if "accuracy" in record:
        parts.append(LinePart(f"accuracy {record['accuracy']:.1%}"))
    if "lr" in record:
        parts.append(LinePart(f"lr {record['lr']:.2e}", 3))
    if record.get("tokens_per_second") is not None:
        parts.append(LinePart(f"{as_count(record['tokens_per_second']):>5} tok/s", 1))
    if "mfu" in record:
        parts.append(LinePart(f"mfu {record['mfu']:.0%}", 5))
    parts.append(LinePart(standing.times))
    return fitted(parts, width)


def eval_lines(record: Mapping[str, Any], standing: Standing, width: int = WIDTH) -> list[str]:
    """An evaluation: the whole, and where there are several sources each of them."""
    sources = record.get("eval_losses", {})
    results = {"": (record["eval_loss"], record["eval_accuracy"])}
    results |= {name: (sources[name], record["eval_accuracies"][name]) for name in sources}
    name_width = min(_LONGEST_NAME, max(map(len, results)))
    lines = []
    for name, (loss, accuracy) in results.items():
        source = f" {_short(name, name_width):<{name_width}}" if name_width else ""
        result = f"eval{source}  loss {_loss(loss)}  accuracy {accuracy:.1%}"
        lines.append(fitted([*_place(record, standing), LinePart(result)], width))
    return lines


def alive_line(
    record: Mapping[str, Any], doing: str, standing: Standing, width: int = WIDTH
) -> str:
    """A sign of life in the middle of an update or an evaluation."""
    return fitted([*_place(record, standing), LinePart(doing), LinePart(standing.times)], width)


def _place(record: Mapping[str, Any], standing: Standing) -> list[LinePart]:
    # A hundred percent is the end, and not the last update but one.
    percent = int(100 * standing.fraction)
    return [
        LinePart(_short(record["stage"], _LONGEST_NAME)),
        LinePart(f"{percent:>3}%", 2),
        LinePart(f"step {record['step']:>6,}"),
    ]


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
