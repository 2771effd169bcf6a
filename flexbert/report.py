"""A picture of a run, drawn from its ``metrics.jsonl`` and ``manifest.json`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexbert.manifest_file import Manifest
from flexbert.metrics_file import Record, read_metrics
from flexbert.pictures import BLUE, GREY, RED, as_count, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, EVAL, QUIET = BLUE, RED, GREY


def plot(run_folder: Path) -> Path:
    """Draw ``report.png`` in a run's folder: loss, accuracy, learning rate, batch size, speed.

    Raises:
        UserError: if the folder holds no run, or a run that has recorded nothing yet.
    """
    records = read_metrics(run_folder)
    manifest = Manifest.read(run_folder)
    path = run_folder / "report.png"
    with picture(path, width=11, height=8) as figure:
        axes = figure.subplot_mosaic("LLL;LLL;ASV")
        _draw_loss(axes["L"], records, manifest.unigram_entropy)
        _draw_accuracy(axes["A"], records)
        _draw_schedule(axes["S"], records)
        _draw_speed(axes["V"], records)
        for panel in axes.values():
            _mark_stages(panel, records, named=panel is axes["L"])
        figure.suptitle(_title(records, manifest), x=0.01, ha="left", fontsize=13)
    return path


def _series(records: Sequence[Record], event: str, key: str) -> tuple[list[float], list[float]]:
    chosen = [r for r in records if r.event == event and key in r.numbers]
    return [r.tokens for r in chosen], [r.numbers[key] for r in chosen]


def _draw_loss(axes: Axes, records: Sequence[Record], entropy: float | None) -> None:
    axes.plot(*_series(records, "train", "loss"), color=TRAIN, linewidth=1.2, label="training")
    tokens, losses = _series(records, "eval", "eval_loss")
    dots: Any = {"color": EVAL, "marker": "o", "markersize": 4}
    _plot_by_stage(axes, records, "eval", "eval_loss", **dots)
    axes.plot([], [], label="validation", **dots)
    if losses:
        axes.annotate(
            f"{losses[-1]:.3f}",
            (tokens[-1], losses[-1]),
            textcoords="offset points",
            xytext=(6, -12),
            color=EVAL,
            ha="right",
        )
    if entropy is not None:
        axes.axhline(entropy, color=QUIET, linestyle="--", linewidth=1)
        axes.annotate(
            f"unigram entropy {entropy:.2f}",
            (1.0, entropy),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            xytext=(-4, 4),
            ha="right",
            color=QUIET,
        )
    axes.set_title("masked-LM loss, nats per masked token")
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.9))
    _token_axis(axes)


def _draw_accuracy(axes: Axes, records: Sequence[Record]) -> None:
    dots: Any = {"color": EVAL, "marker": "o", "markersize": 3}
    _plot_by_stage(axes, records, "eval", "eval_accuracy", **dots)
    axes.set_title("validation accuracy")
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
    axes.set_ylim(bottom=0)
    _token_axis(axes)


def _draw_schedule(axes: Axes, records: Sequence[Record]) -> None:
    _plot_by_stage(axes, records, "train", "lr", color=TRAIN)
    axes.set_title("learning rate (line), batch size (dots)")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    sizes = axes.twinx()
    dotted: Any = {"color": QUIET, "linestyle": ":", "linewidth": 1.5}
    _plot_by_stage(sizes, records, "train", "batch_size", **dotted)
    sizes.set_ylim(bottom=0)
    sizes.grid(False)
    _token_axis(axes)


def _draw_speed(axes: Axes, records: Sequence[Record]) -> None:
    tokens, speed = _series(records, "train", "tokens_per_second")
    axes.plot(tokens, speed, color=TRAIN)
    axes.set_title("real tokens per second (line), MFU (dots)")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(as_count)
    _token_axis(axes)
    utilisation = axes.twinx()
    tokens, mfu = _series(records, "train", "mfu")
    utilisation.plot(tokens, mfu, color=QUIET, linestyle=":", linewidth=1.5)
    # Above 1 only where the peak it is held against was measured too low.
    utilisation.set_ylim(0, max([1.0, *mfu]))
    utilisation.yaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
    utilisation.grid(False)


def _stages(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each stage, in order."""
    stages: dict[str, list[Record]] = {}
    for record in records:
        stages.setdefault(record.stage, []).append(record)
    return stages


def _plot_by_stage(
    axes: Axes, records: Sequence[Record], event: str, key: str, **style: Any
) -> None:
    """One line for each stage: values jump from one to the next, and so may what is evaluated."""
    for of_stage in _stages(records).values():
        axes.plot(*_series(of_stage, event, key), **style)


def _mark_stages(axes: Axes, records: Sequence[Record], named: bool) -> None:
    stages = _stages(records)
    if len(stages) < 2:
        return
    for name, of_stage in stages.items():
        begin = of_stage[0].tokens - of_stage[0].stage_tokens
        axes.axvline(begin, color=QUIET, linewidth=0.8, linestyle=":")
        if named:
            axes.annotate(f" {name}", (begin, 0.02), xycoords=("data", "axes fraction"))


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_formatter(as_count)
    axes.set_xlim(left=0)


def _title(records: Sequence[Record], manifest: Manifest) -> str:
    parts = [
        manifest.run_name,
        f"{as_count(manifest.parameters)} parameters",
        f"{as_count(records[-1].tokens)} tokens",
    ]
    losses = _series(records, "eval", "eval_loss")[1]
    if losses:
        parts.append(f"validation loss {losses[-1]:.3f}")
    return "  ·  ".join(parts)
