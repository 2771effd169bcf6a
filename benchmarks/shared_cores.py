"""What is left of a run's speed when another runs on the same cores?

The quickstart's model trains on all cores: alone, and beside a run of the same kind, with threads
that wait for each other in a short loop before they sleep (what ``main.py`` asks of OpenMP), that
sleep at once, and that wait in a long loop (what libgomp does unless told). In proportion, two runs
have half the speed each.

    python -m benchmarks.shared_cores FOLDER [--updates N] [--rounds N]

FOLDER keeps a corpus of the quickstart's text, and the runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import print_environment, print_header, print_row
from benchmarks.miniatures import make_corpus
from data_prep.demo import write_demo
from flexbert.errors import run_command
from flexbert.metrics_file import read_metrics

REPOSITORY = Path(__file__).parent.parent
# libgomp's own number of turns where threads are no more than cores.
WAITING: Mapping[str, Mapping[str, str]] = {
    "short loop": {},
    "sleep": {"OMP_WAIT_POLICY": "passive"},
    "long loop": {"GOMP_SPINCOUNT": "300000"},
}


def speeds(corpus: Path, folder: Path, updates: int, waiting: str, copies: int) -> list[float]:
    """Tokens a second of each of ``copies`` runs at once; the first records are left out."""
    shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, **WAITING[waiting]}
    # Each takes all cores, as on a machine where nobody has said how many are its own.
    environment.pop("OMP_NUM_THREADS", None)
    runs = [
        subprocess.Popen(
            [
                *(sys.executable, "main.py", "yamls/quickstart.yaml", f"data.path={corpus}"),
                *(f"runs_folder={folder}", f"run_name=run{copy}", f"duration={updates}ba"),
                *("evaluation.interval=1dur", "checkpoints.interval=1dur", "evaluation.rows=1"),
                "logging.interval=5ba",
            ],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for copy in range(copies)
    ]
    if any(run.wait() for run in runs):
        raise SystemExit("a run failed")
    found = []
    for copy in range(copies):
        records = read_metrics(folder / f"run{copy}", "train")
        found.append(
            statistics.median(record.numbers["tokens_per_second"] for record in records[1:])
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    corpus = make_corpus(folder, 8192, write_demo)
    alone: dict[str, list[float]] = {waiting: [] for waiting in WAITING}
    together: dict[str, list[float]] = {waiting: [] for waiting in WAITING}
    for _ in range(arguments.rounds):
        for waiting in WAITING:
            alone[waiting] += speeds(corpus, folder / "runs", arguments.updates, waiting, 1)
            together[waiting] += speeds(corpus, folder / "runs", arguments.updates, waiting, 2)
    print_environment()
    fastest = max(map(statistics.median, alone.values()))
    print_header("threads that wait", ["alone", "one of two", "of in proportion"])
    for waiting in WAITING:
        own, shared = statistics.median(alone[waiting]), statistics.median(together[waiting])
        cells = [f"{own / fastest:.2f}", f"{shared / fastest:.2f}", f"{2 * shared / own:.0%}"]
        print_row(waiting, cells)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
