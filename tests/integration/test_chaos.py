"""A few episodes of benchmarks/chaos.py, and that it finds what it looks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.chaos import Chaos, table
from tests.integration.chaos import Ended, Episode
from tests.integration.chaos_launch import Launch, PromiseError
from tests.integration.launcher import Launcher

pytestmark = pytest.mark.slow

NUM_FAULTS = 2
# Of one process, and of two.
SEEDS = {1: 3, 2: 9}


@pytest.fixture(scope="module")
def chaos(launcher: Launcher, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    return Chaos(launcher, corpus, tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("world", SEEDS)
def test_a_run_that_faults_are_injected_into_ends_as_one_left_alone(
    chaos: Chaos, world: int
) -> None:
    ended = chaos.episode(SEEDS[world], NUM_FAULTS)
    assert [one.problem for one in ended if one.problem] == []
    assert len(ended) == NUM_FAULTS
    assert {one.world for one in ended} == {world}


def test_a_run_that_lost_an_update_is_found(chaos: Chaos, tmp_path: Path) -> None:
    """Another run, in the place of the one that was left alone."""
    episode = Episode(chaos.launcher, chaos.corpus, tmp_path, SEEDS[1])
    expected = chaos.expected(1, episode.sickness)
    batches = {update: rows for update, rows in expected.batches.items() if update != 7}
    with pytest.raises(PromiseError, match="other batches"):
        episode.finish(replace(expected, batches=batches))
    first = next(iter(expected.weights))
    changed = {**expected.weights, first: expected.weights[first] + 1e-6}
    with pytest.raises(PromiseError, match=f"other weights: {first}"):
        episode.finish(replace(expected, weights=changed))
    with pytest.raises(PromiseError, match="records"):
        episode.finish(replace(expected, records=expected.records[1:]))
    episode.finish(expected)


ERROR = "error in rank 0 (host, process 1): waited 9 s\n"


@pytest.mark.parametrize(
    ("output", "codes", "problem"),
    [
        (ERROR, (71, 75), "ended with"),
        ("nothing\n", (71, -9), "causes"),
        (2 * ERROR, (71, -9), "causes"),
        (ERROR + 9 * "noise\n", (71, -9), "not in the last lines"),
        ("Traceback (most recent call last)\n" + ERROR, (71, -9), "1 tracebacks"),
        (ERROR.replace("waited 9 s", "no"), (71, -9), "causes"),
        (ERROR, (71, -9), None),
    ],
)
def test_an_end_without_its_cause_is_found(
    output: str, codes: tuple[int, ...], problem: str | None
) -> None:
    launch = Launch(endings=[(71, -9)], cause="waited")
    if problem is None:
        launch.check(codes, output)
        return
    with pytest.raises(PromiseError, match=problem):
        launch.check(codes, output)


def test_the_table_counts_how_faults_ended() -> None:
    one = Ended(seed=1, kind="kill", world=2, codes=(-9, 71), lost=3)
    lines = table([one, replace(one, lost=4, seed=2), replace(one, problem="hangs", seed=3)])
    assert "| kill | 2 | 3 | -9 and 71: 3 | 4 | 3 |" in lines
    assert lines.endswith("3 faults, 1 failures")
