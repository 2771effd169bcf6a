"""One launch at a time in a run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from flexbert.errors import UserError
from flexbert.train.processes import run_lock
from flexbert.train.processes.run_lock import LOCK, Holder, folder_is_held, hold_run_folder
from tests.conftest import REPOSITORY

HOLDS = """
import sys, time
from pathlib import Path
from flexbert.train.processes.run_lock import hold_run_folder
with hold_run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), str(seconds)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return process


def held(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline().strip() == "held"


def write_lock(folder: Path, holder: Holder, silent_seconds: float) -> None:
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(holder)))
    then = time.time() - silent_seconds
    os.utime(folder / LOCK, (then, then))


def test_a_second_launch_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    process = holder(tmp_path / "run", 60)
    try:
        assert held(process)
        with (
            pytest.raises(UserError, match=rf"in use by another launch \(process {process.pid} on"),
            hold_run_folder(tmp_path / "run"),
        ):
            pytest.fail("both hold it")
    finally:
        process.kill()
        process.wait()
    # The kernel says that it is gone: nothing is waited for.
    began = time.monotonic()
    with hold_run_folder(tmp_path / "run"):
        assert time.monotonic() - began < 5
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path: Path) -> None:
    mine = Holder.this_process()
    write_lock(tmp_path / "run", replace(mine, pid=2**22 + 1, key="gone"), silent_seconds=0)
    processes = [holder(tmp_path / "run", 8) for _ in range(4)]
    assert sum(held(process) for process in processes) == 1
    for process in processes:
        process.wait(60)


def test_on_another_host_silence_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = replace(Holder.this_process(), host="node7/pid:[1]", key="other")
    write_lock(tmp_path / "run", elsewhere, silent_seconds=3600)
    with hold_run_folder(tmp_path / "run"):
        pass

    monkeypatch.setattr(run_lock, "STALE_SECONDS", 2.0)
    write_lock(tmp_path / "run", elsewhere, silent_seconds=0)
    began = time.monotonic()
    with hold_run_folder(tmp_path / "run"):
        assert 1 < time.monotonic() - began < 30


@pytest.mark.slow
def test_on_another_host_a_touch_is_a_sign_of_life(tmp_path: Path) -> None:
    elsewhere = replace(Holder.this_process(), host="node7/pid:[1]", key="other")
    write_lock(tmp_path / "run", elsewhere, silent_seconds=10)
    touch = f"sleep 2; touch {tmp_path / 'run' / LOCK}"
    toucher = subprocess.Popen(["sh", "-c", touch])
    with (
        pytest.raises(UserError, match=r"in use by another launch .* on node7"),
        hold_run_folder(tmp_path / "run"),
    ):
        pytest.fail("both hold it")
    toucher.wait()


def test_who_was_taken_for_dead_notices(tmp_path: Path) -> None:
    with hold_run_folder(tmp_path / "run") as lock:
        lock.touch()
        lock.check()
        write_lock(tmp_path / "run", replace(lock.holder, key="other", pid=77), silent_seconds=0)
        lock.touch()
        with pytest.raises(UserError, match="taken over by process 77"):
            lock.check()
    assert (tmp_path / "run" / LOCK).exists()  # the other one's


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"host": 3}', "\0" * 50])
def test_a_lock_that_says_nothing_goes_by_its_age(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    then = time.time() - 3600
    os.utime(tmp_path / LOCK, (then, then))
    with hold_run_folder(tmp_path):
        pass


def test_a_slurm_step_over_several_nodes_is_told_how_to_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setattr(Holder, "is_gone", lambda self: False)
    write_lock(tmp_path / "run", replace(Holder.this_process(), key="other"), silent_seconds=0)
    with (
        pytest.raises(UserError, match="--world_size, --node_rank"),
        hold_run_folder(tmp_path / "run"),
    ):
        pytest.fail("both hold it")


def test_whether_a_folder_is_held_is_told_without_waiting(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert not folder_is_held(run)
    with hold_run_folder(run):
        assert folder_is_held(run)
    assert not folder_is_held(run)
    here = Holder.this_process()
    # Of another machine only its silence can tell, of this one whether the process is there.
    for other, silent, is_held in (
        (replace(here, host="elsewhere/"), 5.0, True),
        (replace(here, host="elsewhere/"), 120.0, False),
        (replace(here, started=1), 5.0, False),
    ):
        write_lock(run, other, silent)
        assert folder_is_held(run) is is_held
