"""What does everything around the updates cost: callbacks, Composer, the log?

A run trains as ``main.py`` does, and the time inside each callback is summed up, event by event.
The rest that is neither loader, model nor optimizer is Composer's own: counting samples and tokens
over processes, and reading the loss, once an update each.

    python -m benchmarks.callbacks FOLDER [--smoke] [--updates N] [key=value ...]

FOLDER keeps a corpus of the quickstart's text, and the run; ``key=value`` change its recipe, which
is the quickstart's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State
from composer.core import Event

from benchmarks.measuring import print_environment, print_header, print_row
from benchmarks.miniatures import make_corpus, write_some_documents
from data_prep.demo import write_demo
from flexbert.errors import run_command
from flexbert.recipes import load_recipe
from flexbert.train.callbacks import Gradients
from flexbert.train.health.update_guard import UpdateGuard
from flexbert.train.processes.progress import Progress
from flexbert.train.processes.stopping import StopBetween
from flexbert.train.run import train
from flexbert.train.speed_monitor import SpeedMonitor
from flexbert.train.step_times import StepTimes

RECIPE = Path(__file__).parent.parent / "yamls" / "quickstart.yaml"
VOCAB_SIZE = 8192
# Not counted: first calls of everything.
WARMUP = 5
MEASURING = (SpeedMonitor.__name__, StepTimes.__name__)
# Gradients are measured for the health checks; for the log alone, no more than every few updates.
WATCHING = (Gradients.__name__, UpdateGuard.__name__, StopBetween.__name__, Progress.__name__)
# Of stages and evaluations, not of updates.
OUTSIDE = {Event.INIT, Event.BEFORE_LOAD, Event.AFTER_LOAD, Event.FIT_START, Event.FIT_END}


class Stopwatch(Callback):
    """Sums up the seconds inside every callback of a trainer, and those of its updates' parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.parts: dict[str, float] = defaultdict(float)
        self._updates = 0

    def fit_start(self, state: State, logger: Logger) -> None:
        for callback in state.callbacks:
            if callback is not self:
                self._watch(callback)

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self._updates += 1
        if self._updates == WARMUP + 1:
            self.seconds.clear()
            self.parts.clear()

    def _watch(self, callback: Callback) -> None:
        name, run_event = type(callback).__name__, callback.run_event
        # Before it is cleared for the next record.
        parts = self.parts if isinstance(callback, StepTimes) else None

        def watched(event: Event, state: State, logger: Logger) -> Any:
            begin = time.perf_counter()
            run_event(event, state, logger)
            if event not in OUTSIDE and not event.value.startswith("eval"):
                self.seconds[name] += time.perf_counter() - begin
            if parts is not None and event is Event.BATCH_END:
                assert isinstance(callback, StepTimes)
                for part, of_part in callback.last.items():
                    parts[part] += of_part

        callback.run_event = watched  # type: ignore[method-assign]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--smoke", action="store_true", help="a little text, few updates")
    arguments = parser.parse_args(argv)
    return run_command(lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> int:
    text = write_some_documents if arguments.smoke else write_demo
    corpus = make_corpus(arguments.folder, 512 if arguments.smoke else VOCAB_SIZE, text)
    updates = WARMUP + (5 if arguments.smoke else arguments.updates)
    runs = arguments.folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    loaded = load_recipe(
        RECIPE,
        [
            f"data.path={corpus}",
            f"model.vocab_size={512 if arguments.smoke else VOCAB_SIZE}",
            f"runs_folder={runs}",
            f"duration={updates}ba",
            # Both at the end, when the last update has been counted.
            f"evaluation.interval={updates}ba",
            f"checkpoints.interval={updates}ba",
            "logging.interval=5ba",
            *arguments.overrides,
        ],
    )
    stopwatch = Stopwatch()
    train(loaded, sys.argv, [stopwatch])
    total = sum(stopwatch.parts.values())
    counted = updates - WARMUP
    print(f"\n{counted} updates of {1e3 * total / counted:.1f} ms\n")
    print_header("part", ["ms an update", "share"])
    for part, seconds in stopwatch.parts.items():
        print_row(part, [f"{1e3 * seconds / counted:.2f}", f"{seconds / total:.2%}"])
    print()
    print_header("callback", ["ms an update", "share"])
    for name, seconds in sorted(stopwatch.seconds.items(), key=lambda item: -item[1]):
        print_row(name, [f"{1e3 * seconds / counted:.3f}", f"{seconds / total:.3%}"])
    speed_monitor = sum(stopwatch.seconds[name] for name in MEASURING)
    print(f"\nmeasuring an update costs {speed_monitor / total:.2%} of an update")
    watching = sum(stopwatch.seconds[name] for name in WATCHING)
    print(f"watching its numbers and its peers costs {watching / total:.2%} of an update")
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(main())
