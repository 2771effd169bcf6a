"""A thread that looks after a process while its main thread works, waits or hangs.

It sees signals that the main thread cannot see, says who is waited for, and ends the process where
waiting has no end. It speaks to nobody itself, so that it never waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from flexbert.config.timeouts import TimeoutsConfig
from flexbert.train.processes.beat import BEAT_SECONDS, Beat
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.radio import Radio
from flexbert.train.processes.rank import has_launcher
from flexbert.train.processes.run_errors import OthersFailedError, PeerError
from flexbert.train.processes.stop_request import SIGNALS, StopRequest

TELL_SECONDS = 60.0  # waiting is spoken of after this long
_SILENT_BEATS = 3  # without so many beats a process counts as silent
_GRACE_SECONDS = 10.0  # for a main thread that may yet end by itself
_LOOK_SECONDS = 1.0

# Processes that are waited for: how long each has been silent (0: it is not), and its last beat.
Behind = dict[int, tuple[float, Beat]]


class Watch:
    """The watching thread of this process, inside its ``with`` block."""

    def __init__(self, peers: Peers, timeouts: TimeoutsConfig, request: StopRequest) -> None:
        self.rank = peers.rank
        self.timeouts = timeouts
        self.request = request
        # Short limits, in tests, ask for short silences.
        self._radio = Radio(peers, min(BEAT_SECONDS, timeouts.peer / 8))
        self._chores: list[Callable[[], None]] = []
        self._parent = os.getppid()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._told = 0
        self._failed_since: float | None = None

    def __enter__(self) -> Self:
        if self.rank.world_size > 1:
            self._radio.start()
        self.request.is_watched = True
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._radio.stop()
        self._ending.set()
        self.request.wake()
        self._thread.join()

    def fall_silent(self) -> None:
        """Speak to nobody any more: who holds the store is about to go."""
        if not self.rank.is_first:
            self._radio.stop()

    @contextlib.contextmanager
    def regularly(self, chore: Callable[[], None]) -> Iterator[None]:
        """Have ``chore`` done every few seconds inside the block."""
        self._chores.append(chore)
        try:
            yield
        finally:
            self._chores.remove(chore)

    def _run(self) -> None:
        due = 0.0
        while not self._ending.is_set():
            self._read_signals()
            if has_launcher() and os.getppid() != self._parent:
                self.request.request("the end of its launcher")
            if time.monotonic() >= due:
                due = time.monotonic() + BEAT_SECONDS
                for chore in list(self._chores):
                    chore()
            if self.rank.world_size > 1 and not self._ending.is_set():
                self._look()

    def _read_signals(self) -> None:
        """Wait a moment for signals."""
        try:
            ready, _, _ = select.select([self.request.read_end], [], [], _LOOK_SECONDS)
            numbers = os.read(self.request.read_end, 64) if ready else b""
        except (OSError, ValueError):  # closed: nobody awaits signals any more
            return
        for number in numbers:
            if number not in SIGNALS:
                continue
            name = signal.Signals(number).name
            if self.request.is_impatient():
                self._end(f"ended by a second {name}, without saving", 128 + number)
            self.request.request(name)

    def _look(self) -> None:
        """At a failure of others, and at whom this process waits for."""
        if self._radio.failure is not None:
            self._end_as(self._radio.failure)
            return
        place, now = WHEREABOUTS.place, time.monotonic()
        waited = now - place.since
        if waited < self._radio.seconds:
            self._told = 0
            return
        unanswered = now - self._radio.answered
        if unanswered > _SILENT_BEATS * self._radio.seconds:
            limit = self.timeouts.peer
            text = (
                f"in {place.what!r} for rank 0 at {os.environ.get('MASTER_ADDR')}:"
                f"{os.environ.get('MASTER_PORT')}, which has not answered for {unanswered:.0f} s"
            )
        else:
            behind = self._behind(now)
            limit = self.timeouts.slow if self._is_slow(behind) else self.timeouts.peer
            text = self._waiting_text(behind)
        self._tell(waited, min(TELL_SECONDS, limit / 2), text)
        if waited > limit:
            self._end(f"waited {waited:.0f} s {text}", PeerError.exit_code)

    def _behind(self, now: float) -> Behind:
        """Processes that have not come to this one's place, or are silent."""
        found = {}
        for rank, (heard, beat) in self._radio.heard.items():
            silent = now - heard
            is_silent = silent > _SILENT_BEATS * self._radio.seconds
            if is_silent or beat.number < WHEREABOUTS.place.number:
                found[rank] = silent if is_silent else 0.0, beat
        return found

    def _is_slow(self, behind: Behind) -> bool:
        """Whether what is waited for may take long; of a silent process nobody knows."""
        if self._missing or any(silent for silent, _ in behind.values()):
            return False
        return WHEREABOUTS.place.slow or any(beat.slow for _, beat in behind.values())

    @property
    def _missing(self) -> int:
        """How many processes were never heard of."""
        return self.rank.world_size - 1 - len(self._radio.heard)

    def _waiting_text(self, behind: Behind) -> str:
        place = WHEREABOUTS.place
        parts = [
            f"{beat.name}: "
            + (f"no sign of life for {silent:.0f} s, " if silent else "")
            + f"last in {beat.what!r}"
            for silent, beat in list(behind.values())[:3]
        ]
        if len(behind) > 3:
            parts.append(f"{len(behind) - 3} more")
        if self._missing:
            parts.append(f"{self._missing} of {self.rank.world_size} processes, not heard of yet")
        if not parts:
            return f"in {place.what!r}, where all are, or wait for this process"
        return f"in {place.what!r} for {'; '.join(parts)}"

    def _tell(self, waited: float, after: float, text: str) -> None:
        """Say now and then who is waited for, once a node."""
        if self.rank.local_rank == 0 and waited >= after * (self._told + 1):
            self._told += 1
            _print(f"waiting for {waited:.0f} s {text}")

    def _end_as(self, failure: OthersFailedError) -> None:
        """End as another process has; the main thread has a while to do so itself."""
        self._failed_since = self._failed_since or time.monotonic()
        if time.monotonic() - self._failed_since < _GRACE_SECONDS:
            return
        if failure.node != self.rank.node and self.rank.local_rank == 0:
            _print(failure.text)
        self._radio.tell_understood()
        os._exit(failure.exit_code)

    def _end(self, text: str, exit_code: int) -> None:
        """End the process, wherever its main thread is; the reason is printed once a node."""
        before = self._radio.tell_end(text, exit_code) if self.rank.world_size > 1 else None
        if before is None:
            _print(f"error in {self.rank.name}: {text}")
        elif before.node != self.rank.node and self.rank.local_rank == 0:
            _print(before.text)
        if self.rank.world_size > 1:
            self._radio.tell_understood()
        os._exit(exit_code)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
