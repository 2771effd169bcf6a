"""``report.png``: the report of a corpus as one page of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_FILE = "report.png"
DOCUMENTS = "#4878a8"
TOKENS = "#c8553d"
QUIET = "#8a8f98"
MAX_BARS = 10
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b0b4ba",
    "axes.grid": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "grid.color": "#e8e8e8",
}


def draw_report(report: dict[str, Any], corpus: Path) -> None:
    """Draw ``report.png`` in the corpus's folder: lengths, long documents, splits, labels, rows."""
    # Without a screen, and without pyplot's state: nothing has to be closed.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(11, 8.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplot_mosaic("DD TT;DD TT;LL SS;LL RR".replace(" ", ""))
        _draw_lengths(axes["D"], report, "documents", DOCUMENTS)
        _draw_lengths(axes["T"], report, "tokens", TOKENS)
        _draw_long(axes["L"], report)
        _draw_groups(axes["S"], report)
        _draw_rows(axes["R"], report)
        figure.suptitle(
            f"{report['documents']:,} documents, {_short(report['tokens'])} tokens, "
            f"{report['characters_per_token']:.2f} characters a token",
            x=0.01,
            ha="left",
            fontsize=13,
        )
        # Without the version of matplotlib, which is in the file's metadata otherwise.
        figure.savefig(corpus / PICTURE_FILE, dpi=110, metadata={"Software": None})


def _draw_lengths(axes: Axes, report: dict[str, Any], what: str, colour: str) -> None:
    histogram = report["length_histogram"]
    bins, counts = histogram["bins"], histogram[what]
    total = sum(counts)
    axes.stairs([count / total for count in counts], bins, fill=True, color=colour)
    axes.set_xscale("log", base=2)
    powers = range(bins[0].bit_length() - 1, bins[-1].bit_length() + 1)
    ticks = [1 << power for power in powers][:: 1 + len(powers) // 9]
    axes.set_xticks(ticks, [_short(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(bins[0], bins[-1])
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("tokens in a document")
    axes.set_title(
        f"Share of all {what}, by length of their document"
        if what == "tokens"
        else "Share of all documents, by length"
    )


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
            name: f"{_short(group['tokens'])} tokens, {group['documents']:,} documents"
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
    """Horizontal bars, the first on top, each with its note behind it."""
    names = list(values)
    axes.barh(range(len(names)), list(values.values()), color=colour, height=0.7)
    axes.set_yticks(range(len(names)), [_clipped(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    largest = max(values.values()) or 1.0
    axes.set_xlim(0, largest * 2.1)  # room for the notes
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    for row, name in enumerate(names):
        axes.annotate(
            notes[name],
            (values[name], row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )


def _clipped(name: str) -> str:
    # A dollar sign would begin a formula.
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")


def _short(count: int) -> str:
    """A count as on an axis: 512, 4k, 1.7M."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    if count >= 1024 and count % 1024 == 0:
        return f"{count // 1024}k"
    return f"{count:,}"
