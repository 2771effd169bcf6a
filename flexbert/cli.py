"""The ``flexbert`` command."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from flexbert.components import load_recipe, register_all
from flexbert.config.encode import encode
from flexbert.config.plugins import import_plugins
from flexbert.errors import OneLineParser, UserError, run_command

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""

    def command() -> int:
        arguments = _parser().parse_args(argv)
        if getattr(arguments, "plugins", None):
            register_all()
            import_plugins(arguments.plugins)
        code: int = arguments.run(arguments)
        return code

    return run_command(command)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="flexbert", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    plan = commands.add_parser(
        "plan", allow_abbrev=False, help="check and describe a recipe without training"
    )
    plan.add_argument("recipe", type=Path, help="a YAML recipe")
    plan.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="recipe keys to change"
    )
    plan.add_argument("--processes", type=int, default=1, help="plan for so many (default 1)")
    plan.add_argument(
        "--mfu", type=float, default=0.4, help="model FLOPs utilisation to expect (default 0.4)"
    )
    plan.add_argument(
        "--peak-tflops",
        type=float,
        default=989.0,
        metavar="N",
        help="of one GPU (default 989, an H100's in bfloat16)",
    )
    plan.add_argument(
        "--gpu-memory",
        type=float,
        default=80.0,
        metavar="GIB",
        help="of one GPU, for micro-batches that the recipe leaves open (default 80, an H100's)",
    )
    plan.add_argument("--picture", type=Path, metavar="FILE", help="draw the recipe's curves")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.set_defaults(run=_plan)

    doctor = commands.add_parser(
        "doctor", allow_abbrev=False, help="what is installed, and what will be used"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)

    export = commands.add_parser(
        "export", allow_abbrev=False, help="write a checkpoint as a Hugging Face folder"
    )
    export.add_argument("checkpoint", type=Path, help="a checkpoint, or a run's folder")
    export.add_argument("folder", type=Path, help="to be made")
    export.add_argument(
        "--sentence-transformers",
        choices=["cls", "mean", "max"],
        metavar="POOLING",
        help="also for sentence-transformers, pooling by cls, mean or max",
    )
    _take_plugins(export)
    export.set_defaults(run=_export)

    import_ = commands.add_parser(
        "import", allow_abbrev=False, help="read a Hugging Face folder into a checkpoint"
    )
    import_.add_argument("folder", help="a folder, or a name on the Hugging Face Hub")
    import_.add_argument("checkpoint", type=Path, help="to be written")
    import_.set_defaults(run=_import)

    average = commands.add_parser(
        "average", allow_abbrev=False, help="write the mean of checkpoints as a checkpoint"
    )
    average.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="a checkpoint, or a run's folder for its newest",
    )
    average.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="checkpoint to be written"
    )
    what = average.add_mutually_exclusive_group()
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
    average.add_argument(
        "--metric",
        help="what is best by: eval_loss (the default), eval_accuracy or eval_losses.SOURCE",
    )
    average.add_argument(
        "--stage", help="whose checkpoints are compared (default: that of the newest)"
    )
    _take_plugins(average)
    average.set_defaults(run=_average)

    seen = commands.add_parser(
        "seen", allow_abbrev=False, help="where a run has used a document, or that it has not"
    )
    seen.add_argument("corpus", type=Path, help="folder of a corpus")
    seen.add_argument("document", type=int, help="number of a document of its training split")
    seen.add_argument(
        "--run", dest="run_folder", type=Path, required=True, metavar="RUN_FOLDER", help="runs/NAME"
    )
    seen.add_argument("--json", action="store_true", help="print JSON")
    _take_plugins(seen)
    seen.set_defaults(run=_seen)

    rows = commands.add_parser(
        "rows", allow_abbrev=False, help="documents and text that a step was trained on"
    )
    rows.add_argument("run_folder", type=Path, help="for instance runs/quickstart")
    rows.add_argument("step", type=int, help="number of the update, from 1 on")
    rows.add_argument(
        "--characters",
        type=int,
        default=80,
        metavar="N",
        help="to show of each text (default: %(default)s); JSON has it whole",
    )
    rows.add_argument("--json", action="store_true", help="print JSON")
    _take_plugins(rows)
    rows.set_defaults(run=_rows)

    plot = commands.add_parser("plot", allow_abbrev=False, help="draw a run's report.png")
    plot.add_argument("run_folder", type=Path, help="for instance runs/quickstart")
    plot.set_defaults(run=_plot)
    return parser


def _take_plugins(parser: argparse.ArgumentParser) -> None:
    """Give a command the option for what components of a run may be from."""
    parser.add_argument(
        "--plugin",
        dest="plugins",
        action="append",
        default=[],
        metavar="NAME",
        help="a file, module or entry point to import for its components; may be repeated",
    )


# Each command imports what it needs, so that none waits for another's libraries.


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Inside, Python does not look for garbage, nor when it ends among what is there by then.

    A plan imports far more objects than it makes, none of them garbage: looking was a third of its
    time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        atexit.register(gc.freeze)


@_without_collecting()
def _plan(arguments: argparse.Namespace) -> int:
    from flexbert.plan.make_plan import make_plan
    from flexbert.plan.plan_picture import draw_plan
    from flexbert.plan.plan_text import plan_text
    from flexbert.plan.stage_cost import Hardware

    limits = {"processes": math.inf, "mfu": 1, "peak_tflops": math.inf, "gpu_memory": math.inf}
    for option, most in limits.items():
        given = getattr(arguments, option)
        if not (0 < given <= most and math.isfinite(given)):
            wanted = "positive and finite" if most == math.inf else f"above 0 and at most {most}"
            raise UserError(f"--{option.replace('_', '-')}: must be {wanted}, got {given:g}")
    loaded = load_recipe(arguments.recipe, arguments.overrides, planning=True)
    hardware = Hardware(
        mfu=arguments.mfu,
        peak_tflops=arguments.peak_tflops,
        gpu_memory=arguments.gpu_memory,
    )
    planned = make_plan(loaded, arguments.processes, hardware)
    if arguments.picture is not None:
        draw_plan(loaded, arguments.picture)
    return _print(arguments, planned, plan_text)


def _doctor(arguments: argparse.Namespace) -> int:
    from flexbert.doctor import diagnose, diagnosis_text

    return _print(arguments, diagnose(), diagnosis_text)


def _export(arguments: argparse.Namespace) -> int:
    from flexbert.huggingface.export import export_checkpoint

    pooling = arguments.sentence_transformers
    print(*export_checkpoint(arguments.checkpoint, arguments.folder, pooling), sep="\n")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from flexbert.huggingface.importing import import_folder

    print(*import_folder(arguments.folder, arguments.checkpoint), sep="\n")
    return 0


def _average(arguments: argparse.Namespace) -> int:
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


def _seen(arguments: argparse.Namespace) -> int:
    from flexbert.provenance.seen import seen, seen_text

    found = seen(arguments.run_folder, arguments.corpus, arguments.document)
    return _print(arguments, found, seen_text)


def _rows(arguments: argparse.Namespace) -> int:
    from flexbert.provenance.step_rows import step_rows, step_rows_text

    result = step_rows(arguments.run_folder, arguments.step)
    return _print(arguments, result, lambda found: step_rows_text(found, arguments.characters))


def _plot(arguments: argparse.Namespace) -> int:
    from flexbert.report import plot

    print(plot(arguments.run_folder))
    return 0


def _print(arguments: argparse.Namespace, content: T, as_text: Callable[[T], str]) -> int:
    print(json.dumps(encode(content), indent=2) if arguments.json else as_text(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
