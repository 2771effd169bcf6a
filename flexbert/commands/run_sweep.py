"""``flexbert sweep``: a recipe with something changed, several seeds, and a table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flexbert.commands.command import Command, add_json, print_found
from flexbert.errors import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP", help="a sweep's file, or a recipe whose keys vary"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="what every run has; of a recipe, several values make an axis: "
        "model.mlp.activation=gelu,silu seed=1,2,3",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the sweep (default sweeps/NAME)"
    )
    parser.add_argument("--plan", action="store_true", help="check and list all runs, train none")
    parser.add_argument(
        "--table",
        action="store_true",
        help="print and write the table of what is finished, train none",
    )
    parser.add_argument(
        "-n", "--nproc", type=positive, default=1, metavar="N", help="processes of each run"
    )
    add_json(parser, "the table")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.sweeps.condition_notes import planned_conditions
    from flexbert.sweeps.running import Launched, check_begun, last_lines, train_runs
    from flexbert.sweeps.runs import resolve_runs
    from flexbert.sweeps.sweep_file import read_sweep
    from flexbert.sweeps.sweep_report import report_sweep
    from flexbert.sweeps.sweep_text import sweep_table_text
    from flexbert.train.processes.run_errors import DONE, PREEMPTED

    sweep = read_sweep(arguments.sweep, arguments.overrides)
    folder = arguments.out or Path("sweeps") / sweep.name
    runs = resolve_runs(sweep, folder)
    check_begun(runs)
    if arguments.plan:
        print(*(run.name for run in runs), sep="\n")
        print(*("", *planned_conditions(sweep, runs)), sep="\n")
        return 0

    def tell(launched: Launched) -> None:
        name, seconds = launched.run.name, launched.seconds
        if launched.code == DONE:
            said = "finished"
        elif launched.code == PREEMPTED:
            said = "stopped with a checkpoint; the same command goes on"
        else:
            said = f"ended with {launched.code}: {last_lines(launched.log)} ({launched.log})"
        print(f"{name}: {said} ({seconds:.0f}s)", file=sys.stderr, flush=True)

    code = DONE
    if not arguments.table:
        code = train_runs(runs, sweep.base, folder, tell, num_processes=arguments.nproc)
    print_found(arguments, report_sweep(sweep, runs, folder), sweep_table_text)
    return code


COMMAND = Command(
    name="sweep",
    help="train a recipe with something changed, with several seeds, and compare",
    add_arguments=add_arguments,
    run=run,
)
