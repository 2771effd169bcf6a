"""``flexbert evaluate``: fine-tune or probe models on the tasks of a suite."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import Command, add_json, add_plugins, print_found
from flexbert.errors import UserError, positive

if TYPE_CHECKING:
    from flexbert.tasks.results import FitRecord
    from flexbert.tasks.search import SearchProgress

# A key of a suite, which no model's path begins with.
_OVERRIDE = re.compile(r"(suite|defaults|tasks)(\.[^=/]+)?=")
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
    parser.add_argument("--share", action="store_true", help=argparse.SUPPRESS)
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

    overrides = [text for text in arguments.models if _OVERRIDE.match(text)]
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
    device = chosen_device(arguments.device)
    if arguments.export is not None and arguments.export.exists():
        raise UserError(f"--export {arguments.export}: is there already; give another name")
    search = prepare(request)
    if arguments.plan:
        return print_found(arguments, plan(search, request, device), search_plan_text)
    if arguments.share:
        evaluate_suite(search, device, _tell)
        return 0
    devices = _devices(arguments)
    if len(devices) > 1:
        _share_out(devices)
    records = evaluate_suite(search, device, _tell)
    if not arguments.json:
        print(table_text(search))
    if arguments.export is not None:
        lines = export_best(search, arguments.export, device)
        print(*lines, sep="\n", file=sys.stderr if arguments.json else sys.stdout)
    return print_found(arguments, tuple(records), str) if arguments.json else 0


def _tell(record: FitRecord, progress: SearchProgress) -> None:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
    point = " ".join(f"{axis}={value}" for axis, value in record.point.items())
    share = "" if record.budget == 1 else f" {record.budget:.0%} of its updates"
    title = f"{record.model} {record.task} {point} seed={record.seed}{share}"
    if cut := sum(record.cut.values()):
        metrics += f"; {cut:,} texts are cut at max_length"
    count = f"{progress.finished}/{progress.known}"
    made = f"{record.updates:,} updates, " if record.updates else ""
    print(
        f"{count:>9}  {title}: {metrics} ({made}{record.seconds:.0f}s)",
        file=sys.stderr,
        flush=True,
    )


def _devices(arguments: argparse.Namespace) -> list[str]:
    """Of the processes that share the fits on this machine."""
    import torch

    if arguments.device is not None or not torch.cuda.is_available():
        name = arguments.device or "cpu"
        return [name] * (arguments.processes or 1)
    count = arguments.processes or torch.cuda.device_count()
    return [f"cuda:{index % torch.cuda.device_count()}" for index in range(count)]


def _share_out(devices: list[str]) -> None:
    """Start this command once more for each device, and wait for them all.

    Raises:
        UserError: if one of them ended with an error.
    """
    from flexbert.devices.machine_shares import cpu_share

    given = [text for text in sys.argv[1:] if text != "--json"]
    command = [sys.executable, "-m", "flexbert.commands", *given]
    share = cpu_share(len(devices)) if devices[0] == "cpu" else {}
    environment = {**os.environ, **share}
    started = [
        subprocess.Popen([*command, "--share", "--device", name], env=environment)
        for name in devices
    ]
    try:
        while any(process.poll() is None for process in started):
            time.sleep(0.1)
    finally:
        for process in started:
            process.terminate()
    codes = [process.wait() for process in started]
    if failed := [code for code in codes if code]:
        raise UserError(f"{len(failed)} of {len(codes)} processes ended with an error, told above")


COMMAND = Command(
    name="evaluate",
    help="fine-tune or probe models on a suite of tasks",
    add_arguments=add_arguments,
    run=run,
)
