"""Bars of processes that are forked."""

from __future__ import annotations

import os
import signal
import threading

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
