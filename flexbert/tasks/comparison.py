"""Models compared over tasks: the numbers behind every table and picture of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flexbert.tasks.differences import Difference
from flexbert.tasks.results import Mode
from flexbert.tasks.scoring import higher_is_better

MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """
    Attributes:
        reference: label of the row that others are compared to; the first by default.
        metrics: to show in place of the one that a task's fits were chosen by, by task.
        tests: whether to show the test splits, at the point that validation chose.
        best: whether to show the best fit and not the mean over seeds.
    """

    reference: str | None = None
    metrics: Mapping[str, str] | None = None
    tests: bool = False
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """
    Attributes:
        label: of the task, as it is told from the others.
        split: ``validation`` or the name of a test split.
    """

    label: str
    suite: str
    task: str
    split: str
    metric: str

    @property
    def scale(self) -> float:
        """What a value is multiplied by where people read it: percent but for errors."""
        return 100.0 if higher_is_better(self.metric) else 1.0


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """
    Attributes:
        fingerprint: of the model's weights; empty for a floor, whatever made it.
    """

    label: str
    model: str
    mode: Mode
    fingerprint: str

    @property
    def is_floor(self) -> bool:
        return self.mode == "floor"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model on one task.

    Attributes:
        mean: over the seeds; None where it is no finite number.
        spread: the standard deviation over seeds; None for one seed.
        values: by seed, in order.
        point: what was chosen, written as one line.
        num_fits: that it was chosen from.
        budget: the share of their full length that they were given.
        is_behind: fewer fits or seeds than another model has of the task.
    """

    mean: float | None
    spread: float | None
    values: tuple[float | None, ...]
    seeds: tuple[int, ...]
    point: str
    num_fits: int
    budget: float
    fits: tuple[str, ...]
    is_behind: bool = False


@dataclass(frozen=True, kw_only=True)
class RowMean:
    """The mean over all tasks of a row that has them all.

    Attributes:
        spread: over those seeds that all its tasks have; None for fewer than two.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RowDifference:
    """
    Attributes:
        column: its label, or ``mean``.
    """

    row: str
    column: str
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """
    Attributes:
        rows: models, then floors.
        entries: by label of the row and of the column; those that there are.
        means: by label of the row; empty where there is one column, or a metric is an error.
        differences: to the reference, of every other model.
        below_floor: a line for every model that is not shown to beat its task's best floor.
        notes: what a reader has to know to read the numbers.
    """

    suites: tuple[str, ...]
    best: bool
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    entries: dict[str, dict[str, Entry]]
    means: dict[str, RowMean]
    reference: str
    differences: tuple[RowDifference, ...]
    below_floor: tuple[str, ...]
    notes: tuple[str, ...]


def shown_score(value: float | None, column: TableColumn, digits: int = 1) -> str:
    """A score, or a difference of two, as people read it: 83.1 for an accuracy of 0.831."""
    if value is None:
        return "nan"
    extra = 0 if column.scale == 100 else 3
    return f"{value * column.scale:.{digits + extra}f}"
