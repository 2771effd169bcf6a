"""``flexbert sweep``: a recipe with something changed, several seeds, and a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import Command, add_json, print_found
from flexbert.commands.fit_processes import add_share
from flexbert.commands.hardware_options import add_hardware, check_hardware, chosen_hardware
from flexbert.commands.sweep_suite import refuse_for_recipes, run_suite_sweep
from flexbert.errors import UserError, positive

if TYPE_CHECKING:
    from flexbert.sweeps.launches import Launched
    from flexbert.sweeps.runs import SweepRun
    from flexbert.sweeps.search_space import AdaptiveSearch
    from flexbert.sweeps.sweep_file import Sweep
    from flexbert.sweeps.sweep_plan import SweepPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        type=Path,
        metavar="SWEEP",
        help="a sweep's file, or a recipe or a suite of tasks whose keys vary",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="what every run has; of a recipe, several values make an axis: "
        "model.mlp.activation=gelu,silu seed=1,2,3. Of a suite also MODEL or LABEL=MODEL",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the sweep (default sweeps/NAME)"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--plan", action="store_true", help="check and price all runs, and train none"
    )
    instead.add_argument(
        "--table",
        action="store_true",
        help="print and write the table of what is finished, train none",
    )
    instead.add_argument(
        "--slurm",
        action="store_true",
        help="print a script for sbatch: an array of a task a run, or for every --at-once runs",
    )
    parser.add_argument(
        "-n", "--nproc", type=positive, default=1, metavar="N", help="processes of each run"
    )
    parser.add_argument(
        "--at-once",
        type=positive,
        default=1,
        metavar="N",
        help="runs that train at the same time on this machine, each on GPUs of its own, one a "
        "process, or without any on its share of the cores (default 1)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="train the I-th of N parts alone, I from 1 to N, which cost about the same: for "
        "machines that do not share the folder",
    )
    parser.add_argument("--tasks", metavar="NAME,...", help="of a suite: these alone")
    for option, what in (
        ("frozen", "of a suite: a linear probe in place of fine-tuning"),
        ("untrained", "of a suite: also each model's like with weights drawn anew"),
    ):
        parser.add_argument(f"--{option}", action="store_true", help=what)
    add_share(parser)
    add_hardware(parser, of_here=True)
    add_json(parser, "the table or the plan")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.sweeps.condition_notes import planned_conditions
    from flexbert.sweeps.launches import LOGS
    from flexbert.sweeps.running import check_begun, check_folder, train_runs
    from flexbert.sweeps.runs import resolve_runs
    from flexbert.sweeps.sweep_file import read_sweep
    from flexbert.sweeps.sweep_parts import SweepPart, runs_of_part
    from flexbert.sweeps.sweep_plan import sweep_plan_text, sweep_sums_text
    from flexbert.sweeps.sweep_report import report_sweep
    from flexbert.sweeps.sweep_text import sweep_table_text
    from flexbert.train.processes.run_errors import DONE

    check_hardware(arguments)
    if arguments.slurm and arguments.shard is not None:
        raise UserError("--slurm gives every task of its array a part; leave out --shard")
    part = None if arguments.shard is None else SweepPart.parse(arguments.shard)
    sweep = read_sweep(arguments.sweep, arguments.overrides)
    folder = arguments.out or Path("sweeps") / sweep.name
    if sweep.models is not None:
        return run_suite_sweep(arguments, sweep, folder)
    refuse_for_recipes(arguments)
    runs = resolve_runs(sweep, folder)
    if sweep.search is not None:
        return _search(arguments, sweep, sweep.search, folder, runs)
    check_begun(runs)
    if others := check_folder(runs, folder):
        names = f"{', '.join(others[:3])}{' ...' if len(others) > 3 else ''}"
        print(f"note: {folder} has runs that are not of this sweep: {names}", file=sys.stderr)
    code = DONE
    if not arguments.table:
        own = runs if part is None else runs_of_part(runs, part)
        plan = _checked(arguments, sweep, folder, runs, own)
        if arguments.slurm:
            print(_slurm(arguments, sweep.name, len(own)), end="")
            return DONE
        if arguments.plan:
            plan = replace(plan, conditions=tuple(planned_conditions(sweep, runs)))
            return print_found(arguments, plan, sweep_plan_text)
        print(sweep_sums_text(plan), file=sys.stderr)
        print(f"what runs print: {folder / LOGS}", file=sys.stderr, flush=True)
        code = train_runs(
            own,
            sweep.base,
            folder,
            _tell,
            num_processes=arguments.nproc,
            at_once=arguments.at_once,
        )
    print_found(arguments, report_sweep(sweep, runs, folder), sweep_table_text)
    print(f"table and pictures: {folder}", file=sys.stderr)
    return code


def _search(
    arguments: argparse.Namespace,
    sweep: Sweep,
    search: AdaptiveSearch,
    folder: Path,
    edges: Sequence[SweepRun],
) -> int:
    from flexbert.sweeps.search_table import search_table, search_table_text
    from flexbert.sweeps.searching import TrialRuns, open_study, train_trials
    from flexbert.sweeps.study import study_is_begun
    from flexbert.sweeps.sweep_plan import of_search, sweep_plan_text
    from flexbert.train.processes.run_errors import DONE

    for option in ("slurm", "shard"):
        if getattr(arguments, option):
            raise UserError(
                f"--{option} divides runs that are known, and a search draws them one after "
                "another; start the same command several times: the processes share the folder"
            )
    if arguments.at_once > len(sweep.seeds):
        raise UserError(
            "--at-once: a process trains one trial of a search at a time, and of that at most "
            f"{len(sweep.seeds)} runs, one a seed; start the same command several times"
        )
    if not arguments.table:
        plan = _checked(arguments, sweep, folder, edges, edges)
        if arguments.plan:
            begun = study_is_begun(folder)
            trials = open_study(TrialRuns(sweep, folder), search).trials() if begun else []
            return print_found(arguments, of_search(plan, search.trials, trials), sweep_plan_text)
    runs = TrialRuns(sweep, folder)
    study = open_study(runs, search)
    code = DONE
    if not arguments.table:
        code = train_trials(
            study,
            runs,
            search,
            _tell,
            num_processes=arguments.nproc,
            at_once=arguments.at_once,
        )
    print_found(arguments, search_table(runs, search, study.trials()), search_table_text)
    return code


def _checked(
    arguments: argparse.Namespace,
    sweep: Sweep,
    folder: Path,
    runs: Sequence[SweepRun],
    own: Sequence[SweepRun],
) -> SweepPlan:
    """The plan of a sweep's own runs, of which nothing is wrong that can be known beforehand."""
    from flexbert.sweeps.measure_names import check_measures
    from flexbert.sweeps.same_training import same_trainings
    from flexbert.sweeps.sweep_plan import plan_sweep

    check_measures(runs, sweep.measures)
    for note in same_trainings(sweep, runs):
        print(note, file=sys.stderr, flush=True)
    return plan_sweep(
        sweep.name,
        folder,
        own,
        chosen_hardware(arguments, runs[0].recipe.first.precision),
        total=len(runs),
        num_processes=arguments.nproc,
        at_once=arguments.at_once,
    )


def _slurm(arguments: argparse.Namespace, name: str, runs: int) -> str:
    from flexbert.sweeps.slurm_script import slurm_script

    given = [str(arguments.sweep), *arguments.overrides]
    given += [] if arguments.out is None else ["--out", str(arguments.out)]
    for option in ("nproc", "at_once"):
        if (number := getattr(arguments, option)) > 1:
            given += [f"--{option.replace('_', '-')}", str(number)]
    return slurm_script(name, given, runs, num_processes=arguments.nproc, at_once=arguments.at_once)


def _tell(launched: Launched) -> None:
    from flexbert.sweeps.launches import last_lines
    from flexbert.sweeps.running import is_finished
    from flexbert.train.processes.run_errors import DONE, PREEMPTED

    code, log = launched.code, launched.log
    if code == DONE and is_finished(launched.run):
        said = "finished"
    elif launched.was_enough:
        said = "stopped at a rung"
    elif code == PREEMPTED:
        said = "stopped; the same command goes on"
    else:
        said = f"ended with {code}: {last_lines(log)} ({log})"
    print(f"{launched.run.name}: {said} ({launched.seconds:.0f}s)", file=sys.stderr, flush=True)


COMMAND = Command(
    name="sweep",
    help="train a recipe with something changed, with several seeds, and compare",
    add_arguments=add_arguments,
    run=run,
)
