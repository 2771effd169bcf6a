"""Runs train several at once, each once, whoever is killed; their training is stood in for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flexbert.errors import UserError
from flexbert.files.file_lock import file_lock, lock_to_share
from flexbert.sweeps import launches, running
from flexbert.sweeps.launches import Launched, Launches
from flexbert.sweeps.running import check_folder
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from flexbert.train.processes.run_lock import hold_run_folder
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.integration.two_nodes import wait_until

# What a launch does: says that it has begun, waits for a file to go on, and ends as its run's name
# and SIGTERM tell it.
STAND_IN = """
import os, pathlib, signal, sys, time
values = dict(text.partition("=")[::2] for text in sys.argv[2:])
run = pathlib.Path(values["runs_folder"]) / values["run_name"]
run.mkdir(parents=True, exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
with (run / "begun").open("a") as file:
    file.write(os.environ.get("OMP_NUM_THREADS", "all") + "\\n")
while not (run.parent.parent / "go").exists():
    time.sleep(0.02)
if values["seed"] == "13":
    sys.exit("it went wrong")
if values["seed"] != "14":
    (run / "done").touch()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    main = tmp_path / "main.py"
    main.write_text(STAND_IN)
    monkeypatch.setattr(launches, "MAIN", main)
    monkeypatch.setattr(running, "is_finished", lambda run: (run.folder / "done").exists())
    monkeypatch.setattr(running, "_LOOK_SECONDS", 0.1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return tmp_path / "sweep"


def runs_of(folder: Path, seeds: list[int]) -> list[SweepRun]:
    path = folder.parent / "ablation.yaml"
    tree = {"base": str(TINY_RECIPE), "overrides": {"data.path": "/some/corpus"}, "list": [{}]}
    path.write_text(yaml.safe_dump({**tree, "seeds": seeds}))
    return resolve_runs(read_sweep(path), folder)


def test_a_folder_that_holds_another_sweep_alone_is_refused(folder: Path) -> None:
    runs = runs_of(folder, [1, 2])
    assert check_folder(runs, folder) == []
    runs[0].folder.mkdir(parents=True)
    assert check_folder(runs, folder) == []
    # A seed less than it had.
    assert check_folder(runs[1:], folder.parent / "other") == []
    (runs[1].folder).mkdir()
    assert check_folder(runs[1:], folder) == [runs[0].name]
    with pytest.raises(UserError, match=r"holds 2 runs of another sweep; give --out FOLDER"):
        check_folder(runs_of(folder, [3, 4]), folder)


def begun(run: SweepRun) -> list[str]:
    """Of each launch of a run, how many threads it was given."""
    file = run.folder / "begun"
    return file.read_text().split() if file.exists() else []


def trained(
    runs: list[SweepRun], folder: Path, tell: Callable[[Launched], None], at_once: int
) -> int:
    return running.train_runs(runs, TINY_RECIPE, folder, tell, at_once=at_once)


def test_as_many_as_asked_train_at_once_and_one_that_fails_stops_no_other(folder: Path) -> None:
    runs = runs_of(folder, [1, 13, 14, 2, 3])
    went: list[Launched] = []
    # The first three wait for the file; a fourth must not have begun by then.
    process = subprocess.Popen(
        [sys.executable, "-c", watcher(folder, 3)], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    code = trained(runs, folder, went.append, 3)
    output, _ = process.communicate(timeout=60)
    assert int(output) == 3
    assert all(begun(run) == ["2"] for run in runs)
    ends = {launched.run.seed: launched.code for launched in went}
    assert ends == {1: 0, 13: 1, 14: 0, 2: 0, 3: 0}
    assert code == 1
    failed = next(launched for launched in went if launched.run.seed == 13)
    assert launches.last_lines(failed.log) == "it went wrong"


def watcher(folder: Path, wanted: int) -> str:
    """Waits until so many have begun, and a while for more; says how many, and lets them go."""
    return textwrap.dedent(f"""
        import pathlib, time
        folder = pathlib.Path({str(folder)!r})
        def count():
            return len([*folder.glob("runs/*/begun")])
        while count() < {wanted}:
            time.sleep(0.02)
        time.sleep(0.5)
        print(count())
        (folder / "go").touch()
    """)


def test_a_signal_stops_all_launches_with_75(folder: Path) -> None:
    runs = runs_of(folder, [1, 2, 3])
    killer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, pathlib, time\n"
            f"while len([*pathlib.Path({str(folder)!r}).glob('runs/*/begun')]) < 2:\n"
            f"    time.sleep(0.02)\n"
            f"os.kill({os.getpid()}, {int(signal.SIGTERM)})\n",
        ]
    )
    went: list[Launched] = []
    before = signal.getsignal(signal.SIGTERM)
    assert trained(runs, folder, went.append, 2) == 75
    killer.wait()
    assert [launched.code for launched in went] == [75, 75]
    assert [len(begun(run)) for run in runs] == [1, 1, 0]
    assert signal.getsignal(signal.SIGTERM) is before
    # Their locks are free again, and the same command goes on.
    (folder / "go").touch()
    assert trained(runs, folder, went.append, 2) == 0


def test_a_run_that_somebody_else_trains_is_waited_for(folder: Path) -> None:
    runs = runs_of(folder, [1, 2])
    folder.mkdir()
    (folder / "go").touch()
    went: list[Launched] = []

    def free_the_second(launched: Launched) -> None:
        went.append(launched)
        if launched.run is runs[1]:
            held.__exit__(None, None, None)

    # Not by a lock of the sweep's: by a launch of its own, as by hand.
    held = hold_run_folder(runs[0].folder)
    held.__enter__()
    assert trained(runs, folder, free_the_second, 1) == 0
    assert [launched.run for launched in went] == [runs[1], runs[0]]
    assert [len(begun(run)) for run in runs] == [1, 1]


def test_a_lock_is_held_by_its_own_launch_alone_once_their_parent_is_killed(
    tmp_path: Path,
) -> None:
    script = textwrap.dedent(f"""
        import os, pathlib, subprocess, sys
        from flexbert.files.file_lock import lock_to_share
        folder = pathlib.Path({str(tmp_path)!r})
        locks = [lock_to_share(folder / name, wait=False) for name in "ab"]
        descriptors = [lock.__enter__() for lock in locks]
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
        asleep = [subprocess.Popen(sleep, pass_fds=(each,), **quiet) for each in descriptors]
        print(*(process.pid for process in asleep), flush=True)
        os.kill(os.getpid(), 9)
    """)
    parent = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    first, second = map(int, parent.stdout.split())
    try:
        assert not is_free(tmp_path / "a")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: is_free(tmp_path / "a"), 30)
        assert not is_free(tmp_path / "b")
    finally:
        os.kill(second, signal.SIGKILL)
    wait_until(lambda: is_free(tmp_path / "b"), 30)


def is_free(path: Path) -> bool:
    with file_lock(path, wait=False) as held:
        return held


def test_a_lock_that_is_let_go_is_free_though_others_have_its_descriptor(tmp_path: Path) -> None:
    with lock_to_share(tmp_path / "a") as descriptor:
        assert descriptor is not None
        copy = os.dup(descriptor)
        assert not is_free(tmp_path / "a")
    assert is_free(tmp_path / "a")
    os.close(copy)


def test_launches_of_several_processes_meet_at_ports_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: object) -> None:
            commands.append(command)

        def poll(self) -> int:
            return 0

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(launches.subprocess, "Popen", Process)
    # As a job of Slurm has it, where Composer would take it for all of them.
    monkeypatch.setenv("MASTER_PORT", "20000")
    runs = runs_of(folder, [1, 2, 3])
    for name in (launches.LOCKS, launches.LOGS):
        (folder / name).mkdir(parents=True)
    with Launches(TINY_RECIPE, folder, 2, ({}, {}, {})) as going:
        for run in runs:
            locked = going.lock(run)
            assert locked is not None
            going.begin(run, *locked)
        assert not going.has_room
        assert {launch.share for launch in going.going} == {0, 1, 2}
    ports = [command[command.index("--master_port") + 1] for command in commands]
    assert len(set(ports)) == 3
    assert all(command[command.index("-n") + 1] == "2" for command in commands)
