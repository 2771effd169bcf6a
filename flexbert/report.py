"""A picture of a run, drawn from its ``metrics.jsonl`` and ``manifest.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexbert.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, Any]

TRAIN = "#4878a8"
EVAL = "#c8553d"
QUIET = "#8a8f98"


def plot(run_folder: Path) -> Path:
    """Draw ``report.png`` in a run's folder: loss, accuracy, learning rate, batch size, speed.

    Raises:
        UserError: if the folder holds no run, or a run that has recorded nothing yet.
    """
    records = read_metrics(run_folder)
    manifest = _read_manifest(run_folder)

    # Imported late, and without a screen: most commands draw nothing.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e8e8e8",
        "axes.edgecolor": "#b0b4ba",
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
    }
    with pyplot.rc_context(style):
        figure = pyplot.figure(figsize=(11, 8), layout="constrained")
        axes = figure.subplot_mosaic("LLL;LLL;ASV")
        _draw_loss(axes["L"], records, manifest.get("unigram_entropy"))
        _draw_accuracy(axes["A"], records)
        _draw_schedule(axes["S"], records)
        _draw_speed(axes["V"], records)
        figure.suptitle(_title(records, manifest), x=0.01, ha="left", fontsize=13)
        path = run_folder / "report.png"
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
    return path


def read_metrics(run_folder: Path) -> list[Record]:
    """The records of a run, oldest first.

    Raises:
        UserError: if there are none, or a line is not one.
    """
    file = run_folder / "metrics.jsonl"
    if not file.is_file():
        raise UserError(
            f"{run_folder}: no metrics.jsonl there; give the folder of a run, runs/NAME"
        )
    records = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise UserError(f"{file}:{number}: not a record") from None
    if not records:
        raise UserError(f"{file}: nothing is recorded yet")
    return records


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
    axes.yaxis.set_major_formatter(_count)
    _token_axis(axes)


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_formatter(_count)
    axes.set_xlim(left=0)


def _count(value: float, position: float = 0) -> str:
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def _title(records: Sequence[Record], manifest: Record) -> str:
    parts = [
        manifest["run_name"],
        f"{_count(manifest['parameters'])} parameters",
        f"{_count(records[-1]['tokens'])} tokens",
    ]
    losses = _series(records, "eval", "eval_loss")[1]
    if losses:
        parts.append(f"validation loss {losses[-1]:.3f}")
    return "  ·  ".join(parts)
