"""``report.html``: one file that needs nothing else, neither now nor in ten years.

plotly.js stands in it, and a policy that the browser enforces: no script runs but the two that are
named by their hashes, and nothing is loaded from anywhere. Texts of corpora, names and recipes are
escaped all the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from flexbert.config.tree import changed_keys
from flexbert.config.yaml_text import value_text
from flexbert.errors import UserError
from flexbert.health_file import HealthEvent
from flexbert.manifest_file import Launch, Manifest
from flexbert.pictures import as_count
from flexbert.report.compared_panels import run_names
from flexbert.report.curves import Panels
from flexbert.report.html_style import SCRIPT, STYLE
from flexbert.report.masked_text import masked_text_section
from flexbert.report.plotly_figures import json_in_script, plotly_figures
from flexbert.report.recorded_run import RecordedRun
from flexbert.report.run_panels import last_value

MOST_EVENTS = 200
# What differs between any two runs.
NO_DIFFERENCE = ("run_name", "runs_folder")


def run_page(run: RecordedRun, panels: Panels) -> str:
    """The page of one run: plots, masked texts, health, launches, data, recipe."""
    sections = [
        ("Masked tokens and what the model takes them for", masked_text_section(run.examples)),
        ("Health", _health(run.health)),
        ("Launches", _launches(run.manifest)),
        ("Data", _data(run.manifest)),
        ("Recipe", run.recipe_text and f"<pre>{escape(run.recipe_text)}</pre>"),
    ]
    return _page(run.name, panels, sections)


def comparison_page(runs: Sequence[RecordedRun], panels: Panels) -> str:
    """The page of several runs: plots, their last numbers, what differs in their recipes."""
    sections = [
        ("Where they stand", _runs(runs)),
        ("What differs in their recipes", _differences(runs)),
    ]
    return _page(panels.title, panels, sections)


def _page(name: str, panels: Panels, sections: Sequence[tuple[str, str]]) -> str:
    library = _plotly()
    figures = plotly_figures(panels)
    plots = "".join(
        f'<div><h3>{escape(panel.title)}</h3><div id="plot-{number}"></div></div>'
        for number, panel in enumerate(panels.panels)
    )
    facts = f'<p class="facts">{escape(panels.title)}</p>' if panels.title != name else ""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        f"script-src {_hash(library)} {_hash(SCRIPT)}"
    )
    body = "".join(f"<h2>{escape(title)}</h2>{content}" for title, content in sections if content)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}</title><style>{STYLE}</style></head>\n<body>"
        f"<h1>{escape(name)}</h1>{facts}"
        '<p class="note">Drag to zoom all plots; double-click to see everything.</p>'
        f'<div class="plots">{plots}</div>\n{body}\n'
        f'<script type="application/json" id="figures">{json_in_script(figures)}</script>\n'
        f"<script>{library}</script>\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UserError("report.html is drawn by plotly: pip install plotly") from None
    library: str = get_plotlyjs()
    # As the browser hashes it: it reads every line end as one character.
    library = library.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in library.lower() or "<!--" in library:
        raise UserError("this version of plotly cannot stand in a page: pip install -U plotly")
    return library


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A table of texts that are escaped here; nothing where there is no row."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    if not body:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><tr>{heads}</tr>{body}</table></div>'


def _health(events: Sequence[HealthEvent]) -> str:
    if not events:
        return '<p class="note">No update was skipped, and nothing jumped that was watched.</p>'
    shown = events[-MOST_EVENTS:]
    table = _table(
        ("update", "stage", "what", "more"),
        ((f"{e.step:,}", e.stage, e.event, _values(e.values)) for e in shown),
    )
    if len(shown) == len(events):
        return table
    return f'<p class="note">The last {len(shown)} of {len(events):,}.</p>{table}'


def _values(values: Any) -> str:
    """What was noted, on one line that has an end."""
    text = ", ".join(f"{key}: {value}" for key, value in values.items())
    return text if len(text) <= 400 else f"{text[:399]}…"


def _launches(manifest: Manifest) -> str:
    def row(launch: Launch) -> Sequence[str]:
        packages = ", ".join(
            f"{name} {version}" for name, version in launch.packages.items() if version
        )
        return (
            str(launch.time),
            f"{launch.after_step:,}",
            f"{launch.processes} × {launch.device}",
            " ".join(launch.command),
            f"flexbert {launch.flexbert}, Python {launch.python}, {packages}",
            ", ".join(str(plugin) for plugin in launch.plugins),
        )

    head = ("time", "after update", "processes", "command", "versions", "plugins")
    return _table(head, map(row, manifest.launches))


def _data(manifest: Manifest) -> str:
    return _table(
        ("stage", "source", "corpus", "tokenizer", "fingerprints"),
        (
            (
                stage,
                source,
                str(corpus.path),
                str(corpus.tokenizer_sha256)[:16],
                ", ".join(f"{split} {str(of)[:16]}" for split, of in corpus.splits.items()),
            )
            for stage, record in manifest.stages.items()
            for source, corpus in record.corpora.items()
        ),
    )


def _runs(runs: Sequence[RecordedRun]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for name, run in zip(run_names(runs), runs, strict=True):
            last = run.records[-1]
            yield (
                name,
                as_count(run.manifest.parameters),
                as_count(last.tokens),
                f"{last.step:,}",
                *(
                    _number(last_value(run.records, key), form)
                    for key, form in (
                        ("eval_loss", ".4f"),
                        ("eval_accuracy", ".1%"),
                        ("loss", ".4f"),
                        ("tokens_per_second", ",.0f"),
                    )
                ),
            )

    last = ("validation loss", "validation accuracy", "training loss", "tokens per second")
    return _table(("run", "parameters", "tokens", "updates", *last), rows())


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _differences(runs: Sequence[RecordedRun]) -> str:
    first = runs[0].recipe
    changes = [changed_keys(dict(first), dict(run.recipe)) for run in runs[1:]]
    keys = [
        key
        for key in sorted({key for changed in changes for key in changed})
        if key not in NO_DIFFERENCE
    ]

    def row(key: str) -> Sequence[str]:
        before = next(changed[key][0] for changed in changes if key in changed)
        return (
            key,
            value_text(before),
            *(value_text(c[key][1] if key in c else before) for c in changes),
        )

    return _table(("key", *run_names(runs)), map(row, keys))
