"""Signals, and what becomes of a process whose main thread does not see them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flexbert.train.processes.stop_request import SIGNALS, StopRequest
from tests.conftest import REPOSITORY

# Its main thread sits in C, where Python's handlers cannot run.
HANGS = """
import ctypes
from flexbert.config.timeouts import TimeoutsConfig
from torch.distributed import HashStore
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.rank import Rank
from flexbert.train.processes.stop_request import StopRequest
from flexbert.train.processes.watch import Watch
with StopRequest() as request, Watch(Peers(Rank(), HashStore()), TimeoutsConfig(), request):
    print("ready", flush=True)
    libc = ctypes.CDLL(None)
    while True:
        libc.poll(None, 0, 1_000_000)
"""


def hanging() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


@pytest.mark.slow
def test_a_second_signal_ends_a_process_that_hangs_and_the_firsts_echo_does_not() -> None:
    process = hanging()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)  # a launcher passes it on
    time.sleep(1.5)
    assert process.poll() is None
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert "ended by a second SIGTERM, without saving" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_asks_for_a_stop_and_handlers_come_back(number: signal.Signals) -> None:
    # It may be ignored here, as under nohup.
    before = signal.signal(number, signal.default_int_handler)
    before, inherited = signal.getsignal(number), before
    with StopRequest() as request:
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while not request.is_requested and time.monotonic() < deadline:
            time.sleep(0.01)
        assert request.reason == number.name
        assert os.read(request.read_end, 16) == bytes([number])
        request.request("something later")
        assert request.reason == number.name
    assert signal.signal(number, inherited) == before


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert not request.is_requested
    finally:
        signal.signal(signal.SIGHUP, before)
