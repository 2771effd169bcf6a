"""``flexbert average``: the mean of checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command, add_plugins
from flexbert.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="a checkpoint, or a run's folder for its newest",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="checkpoint to be written"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="one for each checkpoint, divided by their sum (default: all equal)",
    )
    what.add_argument(
        "--best",
        type=int,
        metavar="K",
        help="of a run's folder: its last checkpoint, and the best K of those before it",
    )
    what.add_argument(
        "--ema", action="store_true", help="the moving average that one checkpoint holds"
    )
    parser.add_argument(
        "--metric",
        help="what is best by: eval_loss (the default), eval_accuracy, eval_losses.SOURCE, or a "
        "task's TASK.METRIC",
    )
    parser.add_argument(
        "--stage", help="whose checkpoints are compared (default: that of the newest)"
    )
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.checkpoint import averaging

    sources, out, best = arguments.checkpoints, arguments.out, arguments.best
    if len(sources) > 1 and (arguments.ema or best is not None):
        raise UserError(f"{'--ema' if arguments.ema else '--best'} takes one path")
    if best is None and (arguments.metric or arguments.stage):
        raise UserError("--metric and --stage go with --best")
    if arguments.ema:
        lines = averaging.write_moving_average(sources[0], out)
    elif best is not None:
        metric = arguments.metric or averaging.DEFAULT_METRIC
        lines = averaging.average_best(sources[0], out, best, metric, arguments.stage)
    else:
        lines = averaging.average_checkpoints(sources, out, arguments.weights)
    print(*lines, sep="\n")
    return 0


COMMAND = Command(
    name="average",
    help="write the mean of checkpoints as a checkpoint",
    add_arguments=add_arguments,
    run=run,
)
