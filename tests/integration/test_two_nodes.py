"""Two nodes: they finish as one does; where one cannot go on, both end and both say why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from tests.conftest import TINY_RECIPE, read_records
from tests.integration.chaos import RECIPE, new_run
from tests.integration.chaos_launch import kill_group
from tests.integration.faults import Fault
from tests.integration.injected import MARK
from tests.integration.killed_run import KilledRun, assert_same_weights
from tests.integration.launcher import Launcher, Run, read_lines
from tests.integration.two_nodes import NoNamespacesError, TwoNodes, wait_until

pytestmark = pytest.mark.slow

PEER_SECONDS, SLOW_SECONDS = 10, 15
# Beyond the limit, for whoever notices late.
MORE_SECONDS = 60
LAST_LINES = 4
RUN = "run_name=run"


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    try:
        made = TwoNodes()
    except NoNamespacesError as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    made.close()


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> list[str]:
    return [
        f"data.path={corpus}",
        RUN,
        f"runs_folder={tmp_path}",
        f"data.cache={tmp_path / 'orders'}",
        f"timeouts={{peer: {PEER_SECONDS}, slow: {SLOW_SECONDS}}}",
    ]


@pytest.fixture(scope="module")
def one_node(
    launcher: Launcher, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> KilledRun:
    """A run of two processes on one node."""
    run = new_run(launcher, corpus, tmp_path_factory.mktemp("one-node"), None)
    started = run.start(2, 0)
    assert started.wait() == 0, started.output
    return run


def ends(runs: list[Run], seconds: float) -> list[int | None]:
    """Each node's exit code."""
    begun = time.monotonic()
    codes = [run.wait_for_all(max(0.0, seconds - time.monotonic() + begun))[0] for run in runs]
    for run in runs:
        kill_group(run.pids[0])
    return codes


def assert_both_say(runs: list[Run], *causes: str) -> None:
    """In the last lines of both, and without a traceback."""
    for run in runs:
        assert "Traceback" not in run.output, run.output
        last = "\n".join(run.output.splitlines()[-LAST_LINES:])
        assert all(cause in last for cause in causes), run.output


def test_two_nodes_finish_as_one(
    nodes: TwoNodes, one_node: KilledRun, settings: list[str], tmp_path: Path
) -> None:
    runs = nodes.start(RECIPE, settings, tmp_path)
    assert ends(runs, 240) == [0, 0], runs[0].output + runs[1].output
    # Its records and weights, where that of one node would leave them.
    two = KilledRun(one_node.launcher, RECIPE, [], tmp_path)
    assert two.outcome().records == one_node.outcome().records
    assert_same_weights(two.outcome().weights, one_node.outcome().weights)


@pytest.mark.parametrize(
    "event",
    [
        "before_forward",
        pytest.param("eval_batch_start", marks=pytest.mark.long),
        "batch_checkpoint",
    ],
)
def test_a_cable_that_is_pulled_ends_both(
    nodes: TwoNodes, settings: list[str], tmp_path: Path, event: str
) -> None:
    mark = Fault(kind="mark", rank=1, event=event, first=9, end=1000)
    runs = nodes.start(RECIPE, settings, tmp_path, faults=[mark])
    try:
        wait_until((tmp_path / "node-1" / MARK).exists, 120)
        nodes.plug("down")
        assert ends(runs, PEER_SECONDS + MORE_SECONDS) == [71, 71], [r.output for r in runs]
    finally:
        nodes.plug("up")
    assert_both_say(runs, "error in rank", "waited")
    assert "rank 1" in runs[0].output.splitlines()[-1]
    assert "rank 0" in runs[1].output.splitlines()[-1]


@pytest.mark.parametrize("node", [0, 1])
def test_a_corpus_that_is_missing_on_one_ends_both(
    nodes: TwoNodes, settings: list[str], tmp_path: Path, node: int
) -> None:
    own = [["data.path=/nowhere/corpus"] if one == node else [] for one in range(2)]
    runs = nodes.start(RECIPE, settings, tmp_path, own)
    assert ends(runs, PEER_SECONDS + MORE_SECONDS) == [2, 2], [r.output for r in runs]
    assert_both_say(runs, f"error in rank {node}", "/nowhere/corpus")


@pytest.mark.parametrize(
    "value",
    ["optimizer.lr=2e-2", "seed=6", "data.mask_rate=0.2", "model.attention.rope.theta.global=5e3"],
)
def test_another_recipe_on_one_ends_both(
    nodes: TwoNodes, settings: list[str], tmp_path: Path, value: str
) -> None:
    runs = nodes.start(RECIPE, settings, tmp_path, [[], [value]])
    assert ends(runs, PEER_SECONDS + MORE_SECONDS) == [2, 2], [r.output for r in runs]
    key = value.partition("=")[0]
    assert_both_say(runs, "do not have the same recipe", f"{key} is", "on rank 1")


@pytest.fixture
def begun(one_node: KilledRun, tmp_path: Path) -> Path:
    """The folder of a run that goes on from the second of its checkpoints."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for checkpoint in list_checkpoints(one_node.run_folder / "checkpoints")[:2]:
        shutil.copyfile(checkpoint, folder / checkpoint.name)
    return folder


def test_another_checkpoint_on_one_ends_both(
    nodes: TwoNodes, settings: list[str], begun: Path, tmp_path: Path
) -> None:
    """It has the name of the one to go on from, and is another."""
    older, newer = list_checkpoints(begun)
    elsewhere = tmp_path / "elsewhere" / "run" / "checkpoints"
    elsewhere.mkdir(parents=True)
    shutil.copyfile(older, elsewhere / newer.name)
    own: list[list[str]] = [[], [f"runs_folder={tmp_path / 'elsewhere'}"]]
    runs = nodes.start(RECIPE, settings, tmp_path, own)
    assert ends(runs, SLOW_SECONDS + MORE_SECONDS) == [2, 2], [r.output for r in runs]
    assert_both_say(runs, "error in rank 1", str(elsewhere / newer.name), "runs_folder must be")


def test_a_file_that_one_node_sees_late_is_waited_for(
    nodes: TwoNodes, settings: list[str], begun: Path, tmp_path: Path
) -> None:
    newer = list_checkpoints(begun)[-1]
    elsewhere = tmp_path / "elsewhere" / "run" / "checkpoints"
    elsewhere.mkdir(parents=True)
    own: list[list[str]] = [[], [f"runs_folder={tmp_path / 'elsewhere'}", "timeouts.slow=60"]]
    runs = nodes.start(RECIPE, [*settings, "timeouts.slow=60"], tmp_path, own)
    wait_until((tmp_path / "run" / ".lock").exists, 60)
    time.sleep(3)
    assert [run.exit_codes() for run in runs] == [[None], [None]], [r.output for r in runs]
    assert "continuing" not in runs[0].output
    # In one step, as a file system shows it.
    shutil.copyfile(newer, elsewhere / "late")
    (elsewhere / "late").rename(elsewhere / newer.name)
    wait_until(lambda: bool(list(read_lines(tmp_path / "node-1"))), 60)
    for run in runs:
        kill_group(run.pids[0])
    assert ends(runs, 10) == [-9, -9]


def test_composer_starts_a_run_on_two_nodes(
    nodes: TwoNodes, settings: list[str], tmp_path: Path
) -> None:
    short = [*settings, "timeouts={peer: 60, slow: 120}"]
    started = nodes.compose(TINY_RECIPE, [*short, "duration=4ba", "schedule={name: constant}"])
    printed = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(printed)
    assert [record["step"] for record in read_records(tmp_path / "run", "train")] == [1, 2, 3, 4]
