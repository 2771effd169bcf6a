"""``flexbert compare``: tables of models over tasks, or of runs over seeds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from flexbert.commands.command import Command, add_json, print_found
from flexbert.errors import UserError

# Options that mean something for one of the two alone.
_OF_RESULTS = {"--metric": "metrics", "--tests": "tests", "--best": "best", "--png": "png"}
_OF_RUNS = {"--measure": "measures", "--out": "out"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="RESULTS|RUN",
        help="folders of results, for instance results/glue, or their results.jsonl; or folders of "
        "runs, for instance runs/mine-*",
    )
    parser.add_argument(
        "--reference",
        metavar="ROW",
        help="the model, the point or the run that others are compared to (default: the first)",
    )
    for kind, what in (
        ("markdown", "the tables as Markdown"),
        ("latex", "the tables as LaTeX, for its package booktabs"),
    ):
        parser.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"also write {what}")
    _add_for_results(parser.add_argument_group("of results"))
    _add_for_runs(parser.add_argument_group("of runs"))
    add_json(parser, "the comparison")


def _add_for_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metric",
        dest="metrics",
        action="append",
        default=[],
        metavar="TASK=METRIC",
        help="another metric of a task, from kept predictions; may be repeated",
    )
    group.add_argument(
        "--tests", action="store_true", help="test splits, at the point that validation chose"
    )
    group.add_argument(
        "--best", action="store_true", help="the best fit of each, not the mean over its seeds"
    )
    group.add_argument(
        "--png", type=Path, metavar="FILE", help="also write a picture; also .svg or .pdf"
    )


def _add_for_runs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--measure",
        dest="measures",
        action="append",
        default=[],
        metavar="NAME",
        help="a number of metrics.jsonl, or TASK.METRIC (default eval_loss); may be repeated",
    )
    group.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="also write table.md, table.json, curves.png and pareto.png there",
    )


def run(arguments: argparse.Namespace) -> int:
    from flexbert.metrics_file import METRICS
    from flexbert.sweeps.runs import runs_below

    arguments.paths = runs_below(arguments.paths)
    are_runs = {path: (path / METRICS).is_file() for path in arguments.paths}
    if not any(are_runs.values()):
        _refuse(arguments, _OF_RUNS, "of runs, and these are results")
        return _compare_results(arguments)
    if not all(are_runs.values()):
        other = next(path for path, is_run in are_runs.items() if not is_run)
        raise UserError(f"{other}: no run, while others are; compare runs, or results of tasks")
    _refuse(arguments, _OF_RESULTS, "of results, and these are runs")
    return _compare_runs(arguments)


def _refuse(arguments: argparse.Namespace, options: Mapping[str, str], why: str) -> None:
    for option, name in options.items():
        if getattr(arguments, name):
            raise UserError(f"{option} is {why}")


def _compare_results(arguments: argparse.Namespace) -> int:
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
    found = compare_fits(read_fits(arguments.paths), request)
    _write(arguments.markdown, lambda: texts.comparison_markdown(found))
    _write(arguments.latex, lambda: texts.comparison_latex(found))
    if arguments.png is not None:
        from flexbert.tasks.comparison_picture import draw_comparison

        draw_comparison(found, arguments.png)
    return print_found(arguments, found, texts.comparison_text)


def _compare_runs(arguments: argparse.Namespace) -> int:
    from flexbert.sweeps import sweep_text as texts
    from flexbert.sweeps.run_groups import group_runs
    from flexbert.sweeps.sweep_file import DEFAULT_MEASURES
    from flexbert.sweeps.sweep_report import groups_table, write_table

    measures = tuple(dict.fromkeys(arguments.measures)) or DEFAULT_MEASURES
    groups = group_runs(arguments.paths, measures, arguments.reference)
    found, outcomes = groups_table(groups)
    _write(arguments.markdown, lambda: texts.sweep_markdown(found))
    _write(arguments.latex, lambda: texts.sweep_latex(found))
    if arguments.out is not None:
        write_table(found, groups.runs, outcomes, arguments.out)
    return print_found(arguments, found, texts.sweep_table_text)


def _write(path: Path | None, text: Callable[[], str]) -> None:
    from flexbert.files.durable import make_folder, write_text

    if path is not None:
        make_folder(path.parent)
        write_text(path, text())


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
    help="tables of models over tasks, or of runs over seeds: spread, differences with intervals",
    add_arguments=add_arguments,
    run=run,
)
