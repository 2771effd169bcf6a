"""A thread that looks after a process while its main thread works, waits or hangs.

It sees signals that the main thread cannot see, tells others that this process is alive and where
it is, says who is waited for, and ends the process where waiting has no end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch.distributed as dist

from flexbert.config.timeouts import TimeoutsConfig
from flexbert.train.processes.peers import Peers, open_store
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.rank import has_launcher
from flexbert.train.processes.run_errors import OthersFailedError, PeerError
from flexbert.train.processes.stopping import SIGNALS, StopRequest

TELL_SECONDS = 60.0  # waiting is spoken of after this long
_BEAT_SECONDS = 5.0
_SILENT_BEATS = 3  # without so many beats a process counts as silent
_GRACE_SECONDS = 10.0  # for a main thread that may yet end by itself


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a process says of itself every few seconds.

    Attributes:
        count: of its beats.
        name: of the process, for messages.
        number, what, slow: see :class:`~flexbert.train.processes.place.Place`.
    """

    count: int
    name: str
    number: int
    what: str
    slow: bool


class Watch:
    """The watching thread of this process, inside its ``with`` block."""

    def __init__(self, peers: Peers, timeouts: TimeoutsConfig, request: StopRequest) -> None:
        self.rank = peers.rank
        self.timeouts = timeouts
        self.request = request
        self._peers = peers
        self._chores: list[Callable[[], None]] = []
        self._parent = os.getppid()
        self._beat_seconds = min(_BEAT_SECONDS, timeouts.peer / 8)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        # When each other process last had something new to say, and what.
        self._heard: dict[int, tuple[float, Beat]] = {}
        self._told = 0
        self._last_answer = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self.request.wake()
        # Not for long: it may hang in a store that is gone.
        self._thread.join(1.0)

    @contextlib.contextmanager
    def regularly(self, chore: Callable[[], None]) -> Any:
        """Have ``chore`` done every few seconds inside the block."""
        self._chores.append(chore)
        try:
            yield
        finally:
            self._chores.remove(chore)

    def _run(self) -> None:
        store: Peers | None = None
        beats, due = 0, 0.0
        while not self._ending.is_set():
            self._read_signals(min(1.0, self._beat_seconds))
            if has_launcher() and os.getppid() != self._parent:
                self.request.request("the end of its launcher")
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._beat_seconds
            for chore in list(self._chores):
                chore()
            if self.rank.world_size == 1:
                continue
            try:
                # A connection of its own: the main thread may wait in the other one.
                store = store or Peers(self.rank, open_store(self.rank, self._beat_seconds))
                beats += 1
                self._beat(store, beats)
                self._look(store)
                self._last_answer = time.monotonic()
            except dist.DistError:
                store = None
                self._look_without_store()

    def _read_signals(self, seconds: float) -> None:
        try:
            ready, _, _ = select.select([self.request.read_end], [], [], seconds)
            numbers = os.read(self.request.read_end, 64) if ready else b""
        except (OSError, ValueError):  # closed: nobody awaits signals any more
            return
        for number in numbers:
            if number not in SIGNALS:
                continue
            name = signal.Signals(number).name
            if self.request.is_impatient():
                self._end(f"ended by a second {name}, without saving", 128 + number, ask=None)
            self.request.request(name)

    def _beat(self, store: Peers, count: int) -> None:
        place = WHEREABOUTS.place
        own = [count, self.rank.name, place.number, place.what, place.slow]
        store.store.set(f"beat/{self.rank.rank}", json.dumps(own))

    def _look(self, store: Peers) -> None:
        """At a failure of others, and at whom this process waits for."""
        if (failure := store.failure()) is not None:
            self._leave_with(failure, store)
        waited = time.monotonic() - WHEREABOUTS.place.since
        if waited < self._beat_seconds:
            self._heard.clear()
            self._told = 0
            return
        self._listen(store)
        behind = self._behind()
        limit = self.timeouts.slow if self._is_slow(behind) else self.timeouts.peer
        self._tell(waited, min(TELL_SECONDS, limit / 2), lambda: self._waiting_text(behind))
        if waited > limit:
            text = f"waited {waited:.0f} s {self._waiting_text(behind)}"
            self._end(text, PeerError.exit_code, ask=store)

    def _look_without_store(self) -> None:
        waited = time.monotonic() - max(WHEREABOUTS.place.since, self._last_answer)
        text = (
            f"in {WHEREABOUTS.place.what!r} for rank 0, which does not answer at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        )
        self._tell(waited, min(TELL_SECONDS, self.timeouts.peer / 2), lambda: text)
        if waited > self.timeouts.peer:
            self._end(f"waited {waited:.0f} s {text}", PeerError.exit_code, ask=None)

    def _listen(self, store: Peers) -> None:
        """Read all beats; remember which are new."""
        others = [rank for rank in range(self.rank.world_size) if rank != self.rank.rank]
        keys = [f"beat/{rank}" for rank in others]
        known = [(r, k) for r, k in zip(others, keys, strict=True) if store.store.check([k])]
        texts = store.store.multi_get([key for _, key in known]) if known else []
        for (rank, _), text in zip(known, texts, strict=True):
            count, name, number, what, slow = json.loads(text)
            beat = Beat(count=count, name=name, number=number, what=what, slow=slow)
            if rank not in self._heard or self._heard[rank][1].count != count:
                self._heard[rank] = time.monotonic(), beat

    def _behind(self) -> dict[int, tuple[float, Beat]]:
        """Processes that have not come to this one's place, or are silent: how long, and where."""
        now = time.monotonic()
        found = {}
        for rank, (heard, beat) in self._heard.items():
            silent = now - heard
            is_silent = silent > _SILENT_BEATS * self._beat_seconds
            if is_silent or beat.number < WHEREABOUTS.place.number:
                found[rank] = silent if is_silent else 0.0, beat
        return found

    def _is_slow(self, behind: dict[int, tuple[float, Beat]]) -> bool:
        """Whether what is waited for may take long; of a silent process nobody knows."""
        if len(self._heard) < self.rank.world_size - 1 or any(s for s, _ in behind.values()):
            return False
        return WHEREABOUTS.place.slow or any(beat.slow for _, beat in behind.values())

    def _waiting_text(self, behind: dict[int, tuple[float, Beat]]) -> str:
        place = WHEREABOUTS.place
        missing = self.rank.world_size - 1 - len(self._heard)
        parts = [
            f"{beat.name}: "
            + (f"no sign of life for {silent:.0f} s, " if silent else "")
            + f"last in {beat.what!r}"
            for silent, beat in list(behind.values())[:3]
        ]
        if len(behind) > 3:
            parts.append(f"{len(behind) - 3} more")
        if missing:
            parts.append(f"{missing} that never came")
        if not parts:
            return f"in {place.what!r}, where the others are too or wait for this process"
        return f"in {place.what!r} for {'; '.join(parts)}"

    def _tell(self, waited: float, after: float, text: Callable[[], str]) -> None:
        """Say once a minute who is waited for, once a node."""
        if waited < after * (self._told + 1) or self.rank.local_rank != 0:
            return
        self._told += 1
        _print(f"waiting for {waited:.0f} s {text()}")

    def _leave_with(self, failure: OthersFailedError, store: Peers) -> None:
        """End as another process has; the main thread has a while to do so itself."""
        if self._ending.wait(_GRACE_SECONDS):
            return
        store.acknowledge()
        if failure.node != self.rank.node and self.rank.local_rank == 0:
            _print(failure.text)
        os._exit(failure.exit_code)

    def _end(self, text: str, exit_code: int, ask: Peers | None) -> None:
        """End the process, wherever its main thread is; the reason is printed once a node.

        Args:
            ask: through which the others are told.
        """
        is_first = True
        if ask is not None:
            with contextlib.suppress(dist.DistError):
                is_first = ask.fail(text, exit_code)
                failure = ask.failure()
                if failure is not None and failure.node != self.rank.node:
                    is_first = self.rank.local_rank == 0
        if is_first:
            _print(f"error in {self.rank.name}: {text}")
        if ask is not None:
            # The first process holds the store, in which the others read why they end.
            with contextlib.suppress(dist.DistError):
                ask.linger() if self.rank.is_first else ask.acknowledge()
        os._exit(exit_code)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
