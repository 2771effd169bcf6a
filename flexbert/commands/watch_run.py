"""``flexbert watch``: try a run's checkpoints on tasks, next to its training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import Command, add_plugins

if TYPE_CHECKING:
    from flexbert.task_metrics_file import TaskMetrics
    from flexbert.tasks.checkpoint_tasks import TriedCheckpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folder", type=Path, metavar="run", help="the folder of a run, runs/NAME"
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="keys of the suite to change"
    )
    parser.add_argument(
        "--suite",
        type=Path,
        required=True,
        metavar="FILE",
        help="whose tasks, for instance yamls/suites/offline.yaml",
    )
    parser.add_argument("--tasks", metavar="NAME,...", help="these alone (default: all)")
    parser.add_argument(
        "--fine-tune",
        action="store_true",
        help="the suite's whole search (default: a linear probe on frozen features)",
    )
    parser.add_argument(
        "--interval",
        metavar="LENGTH",
        help="of training between two checkpoints to try, 5000ba or 1e9tok (default: all)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="try what is there, and do not wait for more until the run is finished",
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU where there is one)"
    )
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.config.decode import decode
    from flexbert.config.plugins import import_plugins
    from flexbert.config.training import SuiteEvaluationConfig
    from flexbert.devices.chosen import chosen_device
    from flexbert.task_metrics_file import TASKS, measured_text
    from flexbert.tasks.checkpoint_tasks import CheckpointTasks
    from flexbert.tasks.watching import require_run, watch_run
    from flexbert.train.loggers.watch_loggers import WatchLoggers

    import_plugins(arguments.plugins)
    config = decode(
        SuiteEvaluationConfig,
        {
            "file": str(arguments.suite),
            "tasks": arguments.tasks and arguments.tasks.split(","),
            "mode": "fine_tune" if arguments.fine_tune else "frozen",
            "interval": arguments.interval,
            "overrides": arguments.overrides,
        },
    )
    run_folder = arguments.run_folder
    require_run(run_folder, may_begin=not arguments.once)
    tasks = CheckpointTasks(run_folder, config, chosen_device(arguments.device))
    with WatchLoggers.open(run_folder, tasks.suite.name, config) as loggers:
        for line in loggers.lines:
            print(line, flush=True)

        def tell(checkpoint: TriedCheckpoint, measured: Sequence[TaskMetrics]) -> None:
            for each in measured:
                print(f"step {checkpoint.step:>9,}  {measured_text(each)}", flush=True)
            loggers.log(checkpoint.step, measured)

        num_tried, num_known = watch_run(tasks, follow=not arguments.once, tell=tell)
    print(
        f"{num_tried} checkpoint{'s' if num_tried != 1 else ''} tried, {num_known} were before: "
        f"{run_folder / TASKS}"
    )
    return 0


COMMAND = Command(
    name="watch",
    help="try a run's checkpoints on tasks, next to its training",
    add_arguments=add_arguments,
    run=run,
)
