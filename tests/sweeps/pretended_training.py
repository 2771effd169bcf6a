"""A search over a known function, in place of trained runs; also as a process that can be killed.

``python pretended_training.py SWEEP FOLDER [STOP_AT_RUN]`` searches, and sleeps for ever in the
middle of the run of that number, counted from 1.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flexbert.files.line_file import append_lines, json_line
from flexbert.metrics_file import METRICS, read_metrics
from flexbert.sweeps import search_table, searching, sweep_report
from flexbert.sweeps.launches import Launched
from flexbert.sweeps.points import SweepPoint
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.search_table import SearchTable
from flexbert.sweeps.sweep_file import read_sweep

EVALUATIONS, TOKENS_EACH = 9, 100
LAUNCHES, UPDATES = "launches.txt", "updates.txt"


def loss(point: SweepPoint, step: int = EVALUATIONS) -> float:
    """A bowl over the logarithm of the learning rate, with an offset, and less with every step."""
    values = point.values
    lr = (math.log10(values["optimizer.lr"]) + 2.7) ** 2
    choice = 0.0 if values["model.mlp.activation"] == "silu" else 0.3
    return lr + choice + 1 / step


def is_finished(run: SweepRun) -> bool:
    file = run.folder / METRICS
    return file.is_file() and read_metrics(run.folder)[-1].step == EVALUATIONS


class PretendedTraining:
    """In place of ``train_runs``: writes what runs record, and goes on where they were.

    Args:
        log: folder of what was trained.
        stop_at: the run in whose middle it sleeps, counted from 1.

    Attributes:
        begun: how many runs were.
        codes: which runs fail, by their names, and with what.
        after_each: is called after each run.
    """

    def __init__(self, log: Path, stop_at: int | None = None) -> None:
        self.log = log
        self.stop_at = stop_at
        self.begun = 0
        self.codes: dict[str, int] = {}
        self.after_each: Callable[[], None] = lambda: None

    def __call__(
        self,
        runs: Sequence[SweepRun],
        base: Path,
        folder: Path,
        tell: Callable[[Launched], None],
        *,
        num_processes: int = 1,
        at_once: int = 1,
        is_enough: Callable[[SweepRun], bool] | None = None,
    ) -> int:
        for run in runs:
            if is_finished(run):
                continue
            self.begun += 1
            append_lines(self.log / LAUNCHES, [f"{run.name}\n".encode()], sync=False)
            if run.name in self.codes:
                return self.codes[run.name]
            run.folder.mkdir(parents=True, exist_ok=True)
            file = run.folder / METRICS
            after = read_metrics(run.folder)[-1].step if file.is_file() else 0
            for step in range(after + 1, EVALUATIONS + 1):
                if self.begun == self.stop_at and step == EVALUATIONS // 2:
                    (self.log / "sleeps").touch()
                    time.sleep(1000)
                append_lines(self.log / UPDATES, [f"{run.name} {step}\n".encode()], sync=False)
                tokens = step * TOKENS_EACH
                header = {"stage": "only", "step": step, "tokens": tokens, "stage_tokens": tokens}
                record = {"event": "eval", **header, "eval_loss": loss(run.point, step)}
                append_lines(file, [json_line(record)], sync=False)
                if is_enough is not None and is_enough(run):
                    break
            self.after_each()
        return 0


def searched(sweep_file: Path, folder: Path, training: PretendedTraining) -> SearchTable:
    """A search to its end, and its table."""
    searching.train_runs = training  # type: ignore[assignment]
    sweep_report.is_finished = is_finished
    # These runs have no manifest.
    sweep_report.held_conditions = lambda *arguments: []
    sweep = read_sweep(sweep_file)
    assert sweep.search is not None
    resolve_runs(sweep, folder)
    runs = searching.TrialRuns(sweep, folder)
    study = searching.open_study(runs, sweep.search)
    searching.train_trials(study, runs, sweep.search, print)
    return search_table.search_table(runs, sweep.search, study.trials())


if __name__ == "__main__":
    file, to = Path(sys.argv[1]), Path(sys.argv[2])
    stop_at = int(sys.argv[3]) if len(sys.argv) > 3 else None
    to.mkdir(exist_ok=True)
    searched(file, to, PretendedTraining(to, stop_at))
