"""A picture of a run, drawn from its ``metrics.jsonl`` and ``manifest.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.errors import UserError
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
    manifest = _read_manifest(run_folder)
    path = run_folder / "report.png"
    with picture(path, width=11, height=8) as figure:
        axes = figure.subplot_mosaic("LLL;LLL;ASV")
        _draw_loss(axes["L"], records, manifest.get("unigram_entropy"))
        _draw_accuracy(axes["A"], records)
        _draw_schedule(axes["S"], records)
        _draw_speed(axes["V"], records)
        figure.suptitle(_title(records, manifest), x=0.01, ha="left", fontsize=13)
    return path


def _read_manifest(run_folder: Path) -> Record:
    file = run_folder / "manifest.json"
    if not file.is_file():
        raise UserError(
            f"{run_folder}: no manifest.json there; give the folder of a run, runs/NAME"
        )
    manifest: Record = json.loads(file.read_text())
    return manifest


def _series(records: Sequence[Record], event: str, key: str) -> tuple[list[float], list[float]]:
    chosen = [r for r in records if r["event"] == event and key in r]
    return [r["tokens"] for r in chosen], [r[key] for r in chosen]


def _draw_loss(axes: Axes, records: Sequence[Record], entropy: float | None) -> None:
    axes.plot(*_series(records, "train", "loss"), color=TRAIN, linewidth=1.2, label="training")
    tokens, losses = _series(records, "eval", "eval_loss")
    axes.plot(tokens, losses, color=EVAL, marker="o", markersize=4, label="validation")
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
    tokens, accuracy = _series(records, "eval", "eval_accuracy")
    axes.plot(tokens, [100 * a for a in accuracy], color=EVAL, marker="o", markersize=3)
    axes.set_title("validation accuracy, %")
    axes.set_ylim(bottom=0)
    _token_axis(axes)


def _draw_schedule(axes: Axes, records: Sequence[Record]) -> None:
    axes.plot(*_series(records, "train", "lr"), color=TRAIN)
    axes.set_title("learning rate (line), batch size (dots)")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    sizes = axes.twinx()
    sizes.plot(*_series(records, "train", "batch_size"), color=QUIET, linestyle=":", linewidth=1.5)
    sizes.set_ylim(bottom=0)
    sizes.grid(False)
    _token_axis(axes)


def _draw_speed(axes: Axes, records: Sequence[Record]) -> None:
    tokens, speed = _series(records, "train", "tokens_per_second")
    axes.plot(tokens, speed, color=TRAIN)
    axes.set_title("real tokens per second")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(as_count)
    _token_axis(axes)


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_formatter(as_count)
    axes.set_xlim(left=0)


def _title(records: Sequence[Record], manifest: Record) -> str:
    parts = [
        manifest["run_name"],
        f"{as_count(manifest['parameters'])} parameters",
        f"{as_count(records[-1]['tokens'])} tokens",
    ]
    losses = _series(records, "eval", "eval_loss")[1]
    if losses:
        parts.append(f"validation loss {losses[-1]:.3f}")
    return "  ·  ".join(parts)
