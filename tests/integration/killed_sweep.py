"""A sweep of 12 runs that is killed at random moments and continued by two processes.

    python -m tests.integration.killed_sweep CORPUS FOLDER --seed 17

It must give the table of one that was left alone, and train each run once: an update is made again
only where the launch that made it was killed before its checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from flexbert.manifest_file import Manifest
from flexbert.metrics_file import read_metrics
from tests.conftest import TINY_RECIPE

VARIED = ("model.mlp.activation=gelu,silu,relu", "optimizer.lr=5e-3,1e-2", "seed=1,2")
RUNS, UPDATES = 12, 8
SHORT = (f"duration={UPDATES}ba", f"evaluation.interval={UPDATES}ba", "checkpoints.interval=2ba")
KILLS = 8
# A line of the console for an update: its number.
_UPDATE = re.compile(r"step +(\d+) .* tok  loss")


def started(folder: Path, corpus: Path, at_once: int) -> subprocess.Popen[bytes]:
    given = [*VARIED, *SHORT, f"data.path={corpus}", "--out", str(folder), "--json"]
    command = [sys.executable, "-m", "flexbert.commands", "sweep", str(TINY_RECIPE), *given]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "errors.txt").open("ab") as errors:
        return subprocess.Popen(
            [*command, "--at-once", str(at_once)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
        )


def table_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = process.communicate()
    assert process.returncode == 0, process.returncode
    table = json.loads(output)
    assert isinstance(table, dict)
    return table


def kill(process: subprocess.Popen[bytes], whole: bool) -> list[str]:
    """Kill a sweep's process, with its launches or without; the runs that were killed."""
    launches = psutil.Process(process.pid).children(recursive=True) if whole else []
    # Stopped first, so that it begins no other launch meanwhile.
    process.send_signal(signal.SIGSTOP)
    hit: set[str] = set()
    for launch in launches:
        try:
            hit |= {word.partition("=")[2] for word in launch.cmdline() if "run_name=" in word}
            launch.kill()
        except psutil.NoSuchProcess:
            continue
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return sorted(hit)


def await_update(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Return when an update has been made since, or the sweep has ended."""

    def count() -> int:
        return sum(len(_UPDATE.findall(log.read_text())) for log in folder.glob("logs/*"))

    before = count()
    while count() == before and process.poll() is None:
        time.sleep(0.05)


def check(
    folder: Path, corpus: Path, seed: int, kills: int = KILLS, tell: Callable[[str], None] = print
) -> None:
    """Run it all.

    Raises:
        AssertionError: where the table is another one, or a run was trained twice.
    """
    draw = random.Random(seed)
    begun = time.monotonic()
    alone = table_of(started(folder / "alone", corpus, 2))
    whole_seconds = time.monotonic() - begun
    assert alone["finished"] == RUNS
    tell(f"left alone: {whole_seconds:.0f} s")
    killed = folder / "killed"
    hits: Counter[str] = Counter()
    for _ in range(kills):
        process = started(killed, corpus, draw.choice((1, 2)))
        life, whole = draw.uniform(0, 2 * whole_seconds / kills), draw.random() < 0.5
        time.sleep(life)
        if whole and draw.random() < 0.5:
            # In the middle of a run's updates, which are a small part of a short launch.
            await_update(killed, process)
        if process.poll() is not None:
            table_of(process)
            tell(f"finished before it was killed, after {life:.0f} s")
            continue
        hit = kill(process, whole)
        hits.update(hit)
        finished = len([*killed.glob("runs/*/checkpoints/pretrain.pt")])
        what = f"with {', '.join(hit) or 'no launch'}" if whole else "alone"
        tell(f"killed after {life:.0f} s {what}; finished runs: {finished}")
    for table in [table_of(each) for each in [started(killed, corpus, 1) for _ in range(2)]]:
        assert table["cells"] == alone["cells"], (table, alone)
        assert table["finished"] == RUNS
    logs = sorted((killed / "logs").iterdir())
    assert len(logs) == RUNS
    for log in logs:
        tell(trained_once(killed / "runs" / log.stem, log.read_text(), hits[log.stem]))


def trained_once(run: Path, log: str, hits: int) -> str:
    """Hold a run's log, launches and records against how often its launch was killed."""
    assert "in use by another launch" not in log, log
    made = [int(step) for step in _UPDATE.findall(log)]
    launches = Manifest.read(run).launches
    # Where an update is not the next one, another launch has made it.
    with_updates = 1 + sum(step <= before for before, step in itertools.pairwise(made))
    assert with_updates <= 1 + hits, log
    assert len(launches) <= 1 + hits, launches
    begun_after = [launch.after_step for launch in launches]
    assert begun_after == sorted(begun_after), begun_after
    # None was begun on a finished run, and what was made again is what no checkpoint held.
    assert begun_after[-1] < UPDATES, begun_after
    assert set(made) == set(range(1, UPDATES + 1)), made
    recorded = [record.step for record in read_metrics(run, "train")]
    assert recorded == list(range(1, UPDATES + 1)), recorded
    again = len(made) - UPDATES
    return f"{run.name}: {len(launches)} launches, {hits} killed, {again} updates made again"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--kills", type=int, default=KILLS)
    given = parser.parse_args()
    check(given.folder, given.corpus, given.seed, given.kills, partial(print, flush=True))


if __name__ == "__main__":
    main()
