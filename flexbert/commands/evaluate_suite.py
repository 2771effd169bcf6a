"""``flexbert evaluate``: fine-tune or probe models on the tasks of a suite."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flexbert.commands.command import Command, add_json, add_plugins, print_found
from flexbert.commands.fit_processes import add_share, fit_devices, share_fits, tell_fit
from flexbert.errors import UserError, positive

_DESIGNS = ("full", "one-seed", "halving")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suite", type=Path, help="a YAML suite, for instance yamls/suites/glue.yaml"
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a checkpoint, an average, a run's folder for its newest checkpoint, a Hugging Face "
        "folder or a name on the Hub, also as LABEL=MODEL; key=value changes a key of the suite",
    )
    parser.add_argument(
        "--tasks", metavar="NAME,...", help="these alone, with what they start from (default: all)"
    )
    parser.add_argument(
        "--frozen", action="store_true", help="a linear probe on features of the frozen encoder"
    )
    parser.add_argument(
        "--untrained", action="store_true", help="also each model's like with weights drawn anew"
    )
    parser.add_argument(
        "--design", choices=_DESIGNS, default="full", help="which fits are made (default: full)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the results (default: results/SUITE)"
    )
    parser.add_argument(
        "--plan", action="store_true", help="say how many fits, tokens and hours, and make none"
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        help="write the best fit as a Hugging Face folder; with several tasks or models, below it",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="that share the fits on this machine (default: one for every GPU, or one)",
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or cuda:N (default: every GPU there is)"
    )
    add_share(parser)
    add_json(parser, "the plan or the fits")
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.devices.chosen import chosen_device
    from flexbert.tasks.evaluation import (
        SuiteRequest,
        evaluate_suite,
        export_best,
        plan,
        prepare,
        table_text,
    )
    from flexbert.tasks.search_plan import search_plan_text
    from flexbert.tasks.suite import changes_a_suite

    overrides = [text for text in arguments.models if changes_a_suite(text)]
    models = [text for text in arguments.models if text not in overrides]
    if not models:
        raise UserError("no model is given; flexbert evaluate SUITE MODEL... [key=value ...]")
    request = SuiteRequest(
        suite=arguments.suite,
        models=models,
        overrides=overrides,
        tasks=None if arguments.tasks is None else arguments.tasks.split(","),
        frozen=arguments.frozen,
        untrained=arguments.untrained,
        design=arguments.design,
        folder=arguments.out,
        export=arguments.export,
        plugins=arguments.plugins,
    )
    device = chosen_device(arguments.share or arguments.device)
    if arguments.export is not None and arguments.export.exists():
        raise UserError(f"--export {arguments.export}: is there already; give another name")
    search = prepare(request)
    if arguments.plan:
        return print_found(arguments, plan(search, request.design, device), search_plan_text)
    if not arguments.share:
        share_fits(fit_devices(arguments.device, arguments.processes))
    records = evaluate_suite(search, device, tell_fit)
    if arguments.share:
        return 0
    if not arguments.json:
        print(table_text(search))
    if arguments.export is not None:
        lines = export_best(search, arguments.export, device)
        print(*lines, sep="\n", file=sys.stderr if arguments.json else sys.stdout)
    return print_found(arguments, tuple(records), str) if arguments.json else 0


COMMAND = Command(
    name="evaluate",
    help="fine-tune or probe models on a suite of tasks",
    add_arguments=add_arguments,
    run=run,
)
