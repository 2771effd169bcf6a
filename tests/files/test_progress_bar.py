"""Bars of processes that are forked."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from flexbert.files.progress_bar import ProgressBar


def test_a_process_killed_while_it_makes_a_bar_makes_no_other_wait() -> None:
    with ProgressBar(total=1, disable=True):
        pass
    if (child := os.fork()) == 0:
        ProgressBar.get_lock().acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    done = threading.Thread(target=lambda: ProgressBar(total=1, disable=True), daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()


def test_a_bar_starts_no_thread() -> None:
    before = threading.active_count()
    with ProgressBar(total=2, disable=False) as bar:
        bar.update(2)
        assert threading.active_count() == before


def test_a_silent_process_draws_and_announces_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgressBar, "is_silent", True)
    ProgressBar.announce("a long task")
    for _ in ProgressBar(range(3)):
        pass
    said = capsys.readouterr()
    assert said.out + said.err == ""
    monkeypatch.setattr(ProgressBar, "is_silent", False)
    ProgressBar.announce("a long task")
    for _ in ProgressBar(range(3)):
        pass
    assert "a long task" in (said := capsys.readouterr().err)
    assert "3/3" in said
