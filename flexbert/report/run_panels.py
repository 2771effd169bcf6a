"""What is drawn of one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from flexbert.metrics_file import Record
from flexbert.pictures import BLUE, COLORS, RED, as_count
from flexbert.report.axes import AxisName, RunAxis, shared_axis
from flexbert.report.curves import (
    Curve,
    Level,
    Mark,
    Panel,
    Panels,
    Unit,
    number_curves,
    series,
    thinned,
)
from flexbert.report.mask_rates import evaluation_masks, training_masks
from flexbert.report.recorded_run import RecordedRun
from flexbert.report.task_records import TASK, task_names, task_records

LOSS_TITLE = "masked-LM loss, nats per masked token"
SOURCE_LOSSES = "eval_losses."
PARENT_PALE, PARENT = "#d5d8dc", "#aeb3ba"
# The title, key, unit and beginning of what is drawn of every run, where it was recorded.
NUMBERS: tuple[tuple[str, str, Unit, bool], ...] = (
    ("learning rate", "lr", "power", True),
    ("batch size, sequences", "batch_size", "count", True),
    ("gradient norm, before clipping", "grad_norm", "number", False),
    ("size of an update, RMS over all weights", "update_rms", "power", False),
    ("real tokens per second", "tokens_per_second", "count", True),
    ("model FLOPs utilization", "mfu", "percent", True),
)
TROUBLES = {"skipped": "skipped update", "spike": "spike", "rolled_back": "rolled back"}


def run_panels(run: RecordedRun, axis: AxisName = "tokens") -> Panels:
    """Loss, accuracy, schedule, gradients and speed of one run.

    Raises:
        UserError: if its records do not have the axis.
    """
    shared = shared_axis([run], axis)
    (place,) = shared.places
    end = max(place.at(record) for record in run.records)
    return Panels(
        title=_title(run),
        axis=shared.title,
        x_unit="number" if shared.is_time else "count",
        begin=_begin(run, place, end),
        end=end,
        panels=list(_panels(run, place)),
        stages=_stage_marks(run, place),
        troubles=_troubles(run, place),
    )


def _panels(run: RecordedRun, axis: RunAxis) -> Iterator[Panel]:
    records, at = run.records, axis.at
    yield _loss(run, axis)
    if by_source := _source_losses(records, at):
        yield Panel(title="validation loss by source", curves=by_source)
    accuracy = _parent_curves(run, axis, ("eval", "eval_accuracy"))
    accuracy += number_curves(records, at, "eval", "eval_accuracy", RED, "dots")
    if accuracy:
        yield Panel(title="validation accuracy", curves=accuracy, unit="percent", from_zero=True)
    if tasks := _tasks(run, at):
        yield Panel(title="tasks", curves=tasks, may_be_log=False)
    for title, key, unit, from_zero in NUMBERS:
        if curves := number_curves(records, at, "train", key, BLUE):
            yield Panel(title=title, curves=curves, unit=unit, from_zero=from_zero)
    rates = {record.numbers.get("mask_rate") for record in records if record.event == "train"}
    if len(rates) > 1:
        curves = number_curves(records, at, "train", "mask_rate", BLUE)
        yield Panel(title="mask rate in training", curves=curves, unit="percent", from_zero=True)


def _loss(run: RecordedRun, axis: RunAxis) -> Panel:
    records, at = run.records, axis.at
    curves = _parent_curves(run, axis, ("train", "loss"), ("eval", "eval_loss"))
    curves += number_curves(
        records, at, "train", "loss", BLUE, label=f"training{training_masks(run)}"
    )
    label = f"validation{evaluation_masks(run)}"
    if (last := last_value(records, "eval_loss")) is not None:
        label += f"\nlast {last:.3f}"
    curves += number_curves(records, at, "eval", "eval_loss", RED, "dots", label=label)
    entropy = run.manifest.unigram_entropy
    levels = [] if entropy is None else [Level(y=entropy, label=f"unigram entropy {entropy:.2f}")]
    return Panel(title=LOSS_TITLE, curves=curves, levels=levels)


def _parent_curves(run: RecordedRun, axis: RunAxis, *numbers: tuple[str, str]) -> list[Curve]:
    """The same numbers of the run before."""
    if run.parent is None:
        return []
    curves = []
    for event, key in numbers:
        x, y = series(run.parent.records, axis.parent_at, event, key)
        if len(x):
            is_eval = event == "eval"
            x, y = thinned(x, y)
            curves.append(
                Curve(
                    x=x,
                    y=y,
                    color=PARENT if is_eval else PARENT_PALE,
                    look="dots" if is_eval else "line",
                    label=f"{run.parent.name}, {'validation' if is_eval else 'training'}\n"
                    f"({run.parent.key})",
                )
            )
    return curves


def _source_losses(records: Sequence[Record], at: Callable[[Record], float]) -> list[Curve]:
    names = dict.fromkeys(
        key for record in records for key in record.numbers if key.startswith(SOURCE_LOSSES)
    )
    curves = []
    for number, key in enumerate(names):
        color = COLORS[number % len(COLORS)]
        source = key.removeprefix(SOURCE_LOSSES)
        curves += number_curves(records, at, "eval", key, color, "dots", label=source)
    return curves


def _tasks(run: RecordedRun, at: Callable[[Record], float]) -> list[Curve]:
    records = task_records(run)
    curves = []
    for number, name in enumerate(task_names(records)):
        color = COLORS[number % len(COLORS)]
        curves += number_curves(records, at, TASK, name, color, "dots", label=name)
    return curves


def _begin(run: RecordedRun, axis: RunAxis, end: float) -> float:
    """Where the picture begins: the run before has at most half of it."""
    if run.parent is None:
        return axis.begin
    earliest = min(axis.parent_at(record) for record in run.parent.records)
    return max(min(earliest, axis.begin), axis.begin - (end - axis.begin))


def _stage_marks(run: RecordedRun, axis: RunAxis) -> list[Mark]:
    stages = run.stages()
    if len(stages) < 2 and run.parent is None:
        return []
    marks = []
    before = axis.begin
    for name, records in stages.items():
        # Over tokens the stage's own clock says it; else the record before is as near as there is.
        first = records[0]
        begin = before
        if axis.at(first) == first.tokens:
            begin = float(first.tokens - first.stage_tokens)
        # A run that goes on within another one's stage began later than the stage.
        marks.append(Mark(x=max(begin, axis.begin), label=name))
        before = axis.at(records[-1])
    return marks


def _troubles(run: RecordedRun, axis: RunAxis) -> Mapping[str, Sequence[Mark]]:
    steps = [record.step for record in run.records]
    places = [axis.at(record) for record in run.records]
    troubles: dict[str, list[Mark]] = {}
    for event in run.health:
        kind = TROUBLES.get(event.event, event.event)
        x = float(np.interp(event.step, steps, places))
        troubles.setdefault(kind, []).append(Mark(x=x, label=f"{kind}, update {event.step:,}"))
    return troubles


def _title(run: RecordedRun) -> str:
    last = run.records[-1]
    parts = [
        run.name,
        f"{as_count(run.manifest.parameters)} parameters",
        f"{as_count(last.tokens)} tokens",
        f"{last.step:,} update{'s' if last.step != 1 else ''}",
    ]
    if (loss := last_value(run.records, "eval_loss")) is not None:
        parts.append(f"validation loss {loss:.3f}")
    return "  ·  ".join(parts)


def last_value(records: Sequence[Record], key: str) -> float | None:
    """A number's last finite value."""
    values = (record.numbers.get(key, math.nan) for record in reversed(records))
    return next((value for value in values if math.isfinite(value)), None)
