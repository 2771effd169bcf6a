"""``flexbert sweep``: a recipe with something changed, several seeds, and a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import Command, add_json, print_found
from flexbert.errors import positive

if TYPE_CHECKING:
    from flexbert.sweeps.running import Launched
    from flexbert.sweeps.search_space import AdaptiveSearch
    from flexbert.sweeps.sweep_file import Sweep


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
    parser.add_argument("--table", action="store_true", help="print the table of what is finished")
    parser.add_argument(
        "-n", "--nproc", type=positive, default=1, metavar="N", help="processes of each run"
    )
    add_json(parser, "the table")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.sweeps.outcomes import read_outcome
    from flexbert.sweeps.running import check_begun, is_finished, last_lines, train_runs
    from flexbert.sweeps.runs import resolve_runs
    from flexbert.sweeps.sweep_file import read_sweep
    from flexbert.sweeps.sweep_table import sweep_table, sweep_table_text
    from flexbert.train.processes.run_errors import DONE, PREEMPTED

    sweep = read_sweep(arguments.sweep, arguments.overrides)
    folder = arguments.out or Path("sweeps") / sweep.name

    def tell(launched: Launched) -> None:
        name, seconds = launched.run.name, launched.seconds
        if launched.code == DONE:
            said = "finished"
        elif launched.was_enough:
            said = "stopped at a rung"
        elif launched.code == PREEMPTED:
            said = "stopped with a checkpoint; the same command goes on"
        else:
            said = f"ended with {launched.code}: {last_lines(launched.log)} ({launched.log})"
        print(f"{name}: {said} ({seconds:.0f}s)", file=sys.stderr, flush=True)

    if sweep.search is not None:
        return _search(arguments, sweep, sweep.search, folder, tell)
    runs = resolve_runs(sweep, folder)
    check_begun(runs)
    if arguments.plan:
        print(*(run.name for run in runs), sep="\n")
        return 0

    code = DONE
    if not arguments.table:
        code = train_runs(runs, sweep.base, folder, tell, num_processes=arguments.nproc)
    found = [read_outcome(run, sweep.measures) for run in runs if is_finished(run)]
    print_found(arguments, sweep_table(sweep, found), sweep_table_text)
    return code


def _search(
    arguments: argparse.Namespace,
    sweep: Sweep,
    search: AdaptiveSearch,
    folder: Path,
    tell: Callable[[Launched], None],
) -> int:
    from flexbert.sweeps.runs import resolve_runs
    from flexbert.sweeps.search_table import search_table, search_table_text
    from flexbert.sweeps.searching import TrialRuns, open_study, train_trials
    from flexbert.train.processes.run_errors import DONE

    if arguments.plan:
        runs = resolve_runs(sweep, folder)
        print(f"{search.trials} trials are drawn one after another; at the edges they are:")
        print(*(run.name for run in runs), sep="\n")
        return 0
    trial_runs = TrialRuns(sweep, folder)
    study = open_study(trial_runs, search)
    code = DONE
    if not arguments.table:
        code = train_trials(study, trial_runs, search, tell, num_processes=arguments.nproc)
    print_found(arguments, search_table(trial_runs, search, study.trials()), search_table_text)
    return code


COMMAND = Command(
    name="sweep",
    help="train a recipe with something changed, with several seeds, and compare",
    add_arguments=add_arguments,
    run=run,
)
