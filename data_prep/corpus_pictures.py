"""``report.png``: the report of a corpus as one page of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flexbert.pictures import (
    BLUE,
    GREY,
    RED,
    as_count,
    number_ticks,
    percent_ticks,
    picture,
    tick_formatter,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_FILE = "report.png"
DOCUMENTS, TOKENS, QUIET = BLUE, RED, GREY
MAX_BARS = 10


def draw_report(report: dict[str, Any], corpus: Path) -> None:
    """Draw ``report.png`` in the corpus's folder: lengths, long documents, splits, labels, rows."""
    with picture(corpus / PICTURE_FILE, width=12, height=9.5) as figure:
        axes = figure.subplot_mosaic("DDTT;DDTT;LLSS;LLRR")
        _draw_lengths(axes["D"], report, "documents", DOCUMENTS)
        _draw_lengths(axes["T"], report, "tokens", TOKENS)
        _draw_long(axes["L"], report)
        _draw_groups(axes["S"], report)
        _draw_rows(axes["R"], report)
        figure.suptitle(
            f"{report['documents']:,} documents, {as_count(report['tokens'])} tokens, "
            f"{report['characters_per_token']:.2f} characters a token",
            x=0.01,
            ha="left",
            fontsize=13,
        )


def _draw_lengths(axes: Axes, report: dict[str, Any], what: str, colour: str) -> None:
    bins, density = length_density(report["length_histogram"], what)
    axes.stairs(density, bins, fill=True, color=colour)
    axes.set_xscale("log", base=2)
    powers = range(bins[0].bit_length() - 1, bins[-1].bit_length() + 1)
    ticks = [1 << power for power in powers][:: 1 + len(powers) // 9]
    axes.set_xticks(ticks, [_length(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(bins[0], bins[-1])
    axes.yaxis.set_major_formatter(tick_formatter(number_ticks))
    axes.grid(axis="x", visible=False)
    axes.set_axisbelow(True)
    axes.set_xlabel("tokens in a document")
    axes.set_ylabel("density, for each doubling of the length")
    axes.set_title(
        "Documents, by length" if what == "documents" else "Tokens, by length of their document"
    )


def length_density(histogram: dict[str, list[int]], what: str) -> tuple[list[int], np.ndarray]:
    """A histogram's bins, and the density of ``documents`` or ``tokens`` in each.

    Bins are of unequal width, also on a logarithmic axis (from 2 to 3, from 3 to 4), so that shares
    would rise and fall with the width. A density is the share divided by the bin's width in
    doublings; its area over the logarithmic axis is 1.
    """
    bins, counts = histogram["bins"], np.array(histogram[what], np.float64)
    return bins, counts / counts.sum() / np.diff(np.log2(bins))


def _draw_long(axes: Axes, report: dict[str, Any]) -> None:
    shares = {
        f"> {int(context):,}": (found["token_share"], f"{found['documents']:,} documents")
        for context, found in report["long_documents"].items()
    }
    _draw_bars(
        axes,
        {name: share for name, (share, _) in shares.items()},
        {name: f"{share:.1%}  ({note})" for name, (share, note) in shares.items()},
        TOKENS,
    )
    axes.set_title("Share of tokens in documents longer than this")


def _draw_groups(axes: Axes, report: dict[str, Any]) -> None:
    """Splits and labels, by tokens."""
    groups = dict(report["splits"])
    labels = report.get("labels", {})
    largest = sorted(labels, key=lambda name: labels[name]["tokens"], reverse=True)
    groups |= {f"label {name or '(none)'}": labels[name] for name in largest[: MAX_BARS - 2]}
    total = report["tokens"]
    _draw_bars(
        axes,
        {name: group["tokens"] / total for name, group in groups.items()},
        {
            name: f"{as_count(group['tokens'])} tokens, {group['documents']:,} documents"
            for name, group in groups.items()
        },
        DOCUMENTS,
    )
    more = f"; {len(labels) - MAX_BARS + 2} more labels" if len(labels) > MAX_BARS - 2 else ""
    axes.set_title(("Splits and labels" if labels else "Splits") + f", by tokens{more}")


def _draw_rows(axes: Axes, report: dict[str, Any]) -> None:
    """What became of the rows that are not plain documents."""
    duplicates = report["duplicates"]
    what = "duplicates, removed" if duplicates["removed"] else "duplicates, kept"
    counts = {what: duplicates["documents"], **report["rejects"]}
    shown = sorted(counts, key=lambda name: counts[name], reverse=True)[:MAX_BARS]
    rows = report["rows"]
    _draw_bars(
        axes,
        {name: counts[name] / rows for name in shown},
        {name: f"{counts[name]:,}  ({counts[name] / rows:.2%})" for name in shown},
        QUIET,
    )
    axes.set_title(f"Duplicates and rejects among {rows:,} rows")


def _draw_bars(axes: Axes, values: dict[str, float], notes: dict[str, str], colour: str) -> None:
    """Horizontal bars of shares, the first on top, each with its note behind it."""
    names = list(values)
    axes.barh(range(len(names)), list(values.values()), color=colour, height=0.7)
    axes.set_yticks(range(len(names)), [_clipped(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    largest = max(values.values()) or 1.0
    axes.set_xlim(0, largest * 2.1)  # room for the notes
    _mark_shares(axes, largest)
    axes.grid(axis="y", visible=False)
    axes.set_axisbelow(True)
    for row, name in enumerate(names):
        axes.annotate(
            notes[name],
            (values[name], row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )


def _mark_shares(axes: Axes, largest: float) -> None:
    """Ticks as far as the longest bar: behind it notes have their room, and no share is."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(4).tick_values(0, largest)
    axes.set_xticks([float(tick) for tick in ticks if tick <= largest * 1.001])
    axes.xaxis.set_major_formatter(tick_formatter(percent_ticks))
    axes.spines["bottom"].set_bounds(0, largest)


def _clipped(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _length(count: int) -> str:
    """A power of two as on an axis: 512, 4k, 2M."""
    for unit, size in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)
