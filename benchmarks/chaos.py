"""Do runs survive? Injects faults at random into tiny runs, and counts how they ended.

    python -m benchmarks.chaos --faults 1000 --seed 0 --minutes 60
    python -m benchmarks.chaos --only 17        repeats what went wrong with seed 17

A run is launched again and again, each time with another fault; in the end it must equal the run
that was left alone, bit for bit: weights, batches and records. Nothing may hang, and every launch
must say in one line why it ended.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.miniatures import make_corpus
from tests.conftest import write_sources
from tests.integration.chaos import RECIPE, Ended, Episode, left_alone
from tests.integration.chaos_launch import PromiseError
from tests.integration.killed_run import Outcome
from tests.integration.launcher import Launcher

FAULTS_AN_EPISODE = 6
VOCAB_SIZE = 512


class Chaos:
    """Episodes, and what they are compared with."""

    def __init__(self, launcher: Launcher, corpus: Path, folder: Path) -> None:
        self.launcher = launcher
        self.corpus = corpus
        self.folder = folder
        self._expected: dict[tuple[int, str | None], Outcome] = {}
        launcher.prepare(RECIPE, [f"data.path={corpus}", f"data.cache={folder / 'prepared'}"])

    def expected(self, world: int, sickness: str | None) -> Outcome:
        """What a run of this kind computes when it is left alone; trained once."""
        key = world, sickness
        if key not in self._expected:
            folder = self.folder / f"left-alone-{world}-{sickness}"
            self._expected[key] = left_alone(
                self.launcher, self.corpus, folder, world=world, sick=sickness
            )
        return self._expected[key]

    def episode(self, seed: int, num_faults: int = FAULTS_AN_EPISODE) -> list[Ended]:
        """The faults of one run, and how each ended; last, if it did not end as it should, that."""
        episode = Episode(self.launcher, self.corpus, self.folder / f"seed-{seed}", seed)
        ended = episode.play(num_faults)
        if ended and ended[-1].problem:
            return ended
        try:
            episode.finish(self.expected(episode.world, episode.sickness))
        except PromiseError as error:
            before = ", ".join(f"{one.kind} {one.codes}" for one in ended)
            problem = f"{error}\nafter {before}"
            last = Ended(
                seed=seed, kind="the end", world=episode.world, codes=(), lost=0, problem=problem
            )
            return [*ended, last]
        return ended


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="stop after so many")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first episode; the next has 1 more"
    )
    parser.add_argument("--only", type=int, metavar="SEED", help="one episode")
    given = parser.parse_args(arguments)
    seeds: Iterable[int] = [given.only] if given.only is not None else _from(given.seed)
    deadline = time.monotonic() + 60 * given.minutes
    ended: list[Ended] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        corpus = make_corpus(folder / "corpus", VOCAB_SIZE, write_sources)
        launcher = Launcher()
        chaos = Chaos(launcher, corpus, folder)
        try:
            for seed in seeds:
                found = chaos.episode(seed)
                ended += found
                for one in found:
                    if one.problem:
                        title = f"seed {seed}, {one.kind}, {one.world} processes"
                        print(f"\n{title}: {one.problem}\n", flush=True)
                if len(ended) >= given.faults or time.monotonic() > deadline:
                    break
        finally:
            launcher.close()
            print(table(ended))
    return any(one.problem for one in ended)


def _from(seed: int) -> Iterator[int]:
    while True:
        yield seed
        seed += 1


def table(ended: Sequence[Ended]) -> str:
    """Kinds of faults by processes: how many, how they ended, how much was lost, what failed."""
    lines = [
        "| fault | processes | times | exit codes | updates lost, at most | failed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, world in sorted({(one.kind, one.world) for one in ended}):
        of_it = [one for one in ended if (one.kind, one.world) == (kind, world)]
        codes = collections.Counter(" and ".join(map(str, one.codes)) for one in of_it)
        shown = "; ".join(f"{code}: {count}" for code, count in codes.most_common())
        failed = [str(one.seed) for one in of_it if one.problem]
        lines.append(
            f"| {kind} | {world} | {len(of_it)} | {shown} | {max(o.lost for o in of_it)} | "
            f"{', '.join(failed) or 0} |"
        )
    failures = sum(one.problem is not None for one in ended)
    return "\n".join([*lines, "", f"{len(ended)} faults, {failures} failures"])


if __name__ == "__main__":
    sys.exit(main())
