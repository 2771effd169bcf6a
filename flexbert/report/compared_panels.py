"""What is drawn of several runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from flexbert.metrics_file import Record
from flexbert.pictures import COLORS
from flexbert.report.axes import AxisName, RunAxis, shared_axis
from flexbert.report.curves import Curve, Look, Panel, Panels, Unit, number_curves
from flexbert.report.mask_rates import evaluation_masks
from flexbert.report.recorded_run import RecordedRun
from flexbert.report.run_panels import LOSS_TITLE, NUMBERS
from flexbert.report.task_records import TASK, task_names, task_records

COMPARED: tuple[tuple[str, str, str, Unit, bool], ...] = (
    (f"validation: {LOSS_TITLE}", "eval", "eval_loss", "number", False),
    (f"training: {LOSS_TITLE}", "train", "loss", "number", False),
    ("validation accuracy", "eval", "eval_accuracy", "percent", True),
    *((title, "train", key, unit, from_zero) for title, key, unit, from_zero in NUMBERS),
)


def compared_panels(runs: Sequence[RecordedRun], axis: AxisName = "tokens") -> Panels:
    """The same numbers of several runs in one panel each, a color a run.

    Raises:
        UserError: if the records of one do not have the axis.
    """
    shared = shared_axis(runs, axis)
    axes = shared.places
    names = run_names(runs)
    masks = [evaluation_masks(run) for run in runs]
    if len(set(masks)) > 1:
        # Their validation losses do not compare, which nobody sees in the curves.
        names = [f"{name}{mask}" for name, mask in zip(names, masks, strict=True)]
    return Panels(
        title="  ·  ".join(run_names(runs)),
        axis=shared.title,
        x_unit="number" if shared.is_time else "count",
        begin=min(place.begin for place in axes),
        end=max(
            place.at(record)
            for run, place in zip(runs, axes, strict=True)
            for record in run.records
        ),
        panels=list(_panels(runs, axes, names)),
    )


def run_names(runs: Sequence[RecordedRun]) -> list[str]:
    """What each is called: its name, or its folder where two have one name."""
    count = Counter(run.name for run in runs)
    return [run.name if count[run.name] == 1 else str(run.folder) for run in runs]


def _panels(
    runs: Sequence[RecordedRun], axes: Sequence[RunAxis], names: Sequence[str]
) -> Iterator[Panel]:
    recorded = [run.records for run in runs]
    measured = [task_records(run) for run in runs]
    for title, event, key, unit, from_zero in COMPARED:
        if curves := _curves(recorded, axes, names, event, key):
            yield Panel(title=title, curves=curves, unit=unit, from_zero=from_zero)
    for task in dict.fromkeys(name for records in measured for name in task_names(records)):
        yield Panel(
            title=f"task: {task}",
            curves=_curves(measured, axes, names, TASK, task),
            may_be_log=False,
        )


def _curves(
    recorded: Sequence[Sequence[Record]],
    axes: Sequence[RunAxis],
    names: Sequence[str],
    event: str,
    key: str,
) -> list[Curve]:
    """One number of every run that has it, in the run's color."""
    curves: list[Curve] = []
    for number, (records, place, name) in enumerate(zip(recorded, axes, names, strict=True)):
        color = COLORS[number % len(COLORS)]
        look: Look = (
            "dashed" if number // len(COLORS) % 2 else "line" if event == "train" else "dots"
        )
        found = number_curves(records, place.at, event, key, color, look, name)
        # Noise of several runs hides all of them: the mean, which comes last, is enough.
        curves += found[-1:]
    return curves
