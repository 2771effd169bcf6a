"""The command that a stopped run names is the one that was typed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from flexbert.train.console import same_command as module
from flexbert.train.console.same_command import same_command

ARGUMENTS = ["yamls/base.yaml", "data.path=a b", "data.remote=sftp://me:secret@host/x"]
TYPED = "yamls/base.yaml 'data.path=a b' 'data.remote=sftp://me:***@host/x'"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("python", "composer"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(sys, "argv", ["main.py", *ARGUMENTS])
    return tmp_path


def launched_by(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def parent(self) -> Any:
            return self

        def cmdline(self) -> list[str]:
            return words

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(module.psutil, "Process", Process)


def test_one_process(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "main.py", *ARGUMENTS])
    assert same_command() == f"python -u main.py {TYPED}"
    monkeypatch.setattr(sys, "orig_argv", [str(programs / "python"), "main.py", *ARGUMENTS])
    assert same_command() == f"python main.py {TYPED}"
    monkeypatch.setattr(sys, "orig_argv", ["/elsewhere/python", "main.py", *ARGUMENTS])
    assert same_command() == f"/elsewhere/python main.py {TYPED}"


def test_a_launchers_processes(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "main.py", *ARGUMENTS])
    script = str(programs / "composer")
    launched_by([str(programs / "python"), script, "-n", "2", "main.py", *ARGUMENTS], monkeypatch)
    assert same_command() == f"composer -n 2 main.py {TYPED}"
    launched_by(
        [str(programs / "python"), "-m", "flexbert.commands", "launch", "main.py", *ARGUMENTS],
        monkeypatch,
    )
    assert same_command() == f"python -m flexbert.commands launch main.py {TYPED}"
    # A parent that says nothing of it: what each process was started with.
    launched_by(["slurmstepd"], monkeypatch)
    assert same_command() == f"python -u main.py {TYPED}"
