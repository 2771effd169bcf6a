"""``flexbert compare``: tables of models over tasks."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command, add_json, print_found
from flexbert.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="a folder of results, for instance results/glue, or its results.jsonl",
    )
    parser.add_argument(
        "--reference",
        metavar="ROW",
        help="the model that others are compared to (default: the first)",
    )
    parser.add_argument(
        "--metric",
        dest="metrics",
        action="append",
        default=[],
        metavar="TASK=METRIC",
        help="another metric of a task, from kept predictions; may be repeated",
    )
    parser.add_argument(
        "--tests", action="store_true", help="test splits, at the point that validation chose"
    )
    parser.add_argument(
        "--best", action="store_true", help="the best fit of each, not the mean over its seeds"
    )
    for kind, what in (
        ("markdown", "the tables as Markdown"),
        ("latex", "the tables as LaTeX, for its package booktabs"),
        ("png", "a picture; also .svg or .pdf"),
    ):
        parser.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"also write {what}")
    add_json(parser, "the comparison")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.files.durable import make_folder, write_text
    from flexbert.tasks import comparison_text as texts
    from flexbert.tasks.compare_models import compare_fits
    from flexbert.tasks.comparison import CompareRequest
    from flexbert.tasks.kept_fits import read_fits

    request = CompareRequest(
        reference=arguments.reference,
        metrics=_metrics(arguments.metrics),
        tests=arguments.tests,
        best=arguments.best,
    )
    found = compare_fits(read_fits(arguments.results), request)
    for path, as_text in (
        (arguments.markdown, texts.comparison_markdown),
        (arguments.latex, texts.comparison_latex),
    ):
        if path is not None:
            make_folder(path.parent)
            write_text(path, as_text(found))
    if arguments.png is not None:
        from flexbert.tasks.comparison_picture import draw_comparison

        draw_comparison(found, arguments.png)
    return print_found(arguments, found, texts.comparison_text)


def _metrics(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        task, _, metric = text.rpartition("=")
        if not task or not metric:
            raise UserError(f"--metric {text}: give TASK=METRIC, for instance mrpc=f1")
        found[task] = metric
    return found


COMMAND = Command(
    name="compare",
    help="tables of models over tasks: scores, spread, differences with intervals, floors",
    add_arguments=add_arguments,
    run=run,
)
