"""A thread that talks to the store, so that only it hangs where the store does not answer.

It has a connection of its own. What it hears is kept for whoever decides: see
:class:`~flexbert.train.processes.watch.Watch`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import torch.distributed as dist

from flexbert.train.processes.beat import Beat, read_beats, send_beat
from flexbert.train.processes.peers import Peers, open_store
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.run_errors import OthersFailedError

_TELLING_SECONDS = 3.0  # for the others to be told of an end


class Radio:
    """Sends this process's beat, and hears the others'.

    Attributes:
        answered: when the store last answered, on the monotonic clock.
        heard: when each other process last had a new beat, and that beat, by rank.
        failure: what another process ended the run with.
    """

    def __init__(self, main: Peers, seconds: float) -> None:
        """
        Args:
            main: the main thread's connection, which keeps the failure that is heard of.
            seconds: between two beats.
        """
        self.rank = main.rank
        self.seconds = seconds
        self._main = main
        self.answered = time.monotonic()
        self.heard: dict[int, tuple[float, Beat]] = {}
        self.failure: OthersFailedError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="radio", daemon=True)
        self._peers: Peers | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Speak to nobody any more."""
        self._ending.set()
        if self._thread.is_alive():
            # Not for long: it may hang in a store that is gone.
            self._thread.join(_TELLING_SECONDS)

    def tell_end(self, text: str, exit_code: int) -> OthersFailedError | None:
        """Tell the others that this process ends the run; what one has said before, if one has.

        A store that does not answer is not waited for.
        """
        found: list[OthersFailedError | None] = []

        def tell(peers: Peers) -> None:
            if not peers.fail(text, exit_code):
                found.append(peers.failure())

        self._try_for(tell, _TELLING_SECONDS)
        return found[0] if found else None

    def tell_understood(self) -> None:
        """Let the process that holds the store go; if this is it, wait for the others to read."""

        def tell(peers: Peers) -> None:
            if self.rank.is_first:
                peers.linger()
            else:
                peers.acknowledge()

        self._try_for(tell, 3 * _TELLING_SECONDS)

    def _try_for(self, action: Callable[[Peers], None], seconds: float) -> None:
        def run() -> None:
            try:
                action(Peers(self.rank, open_store(self.rank, seconds)))
            except dist.DistError:
                return

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)

    def _run(self) -> None:
        count = 0
        # Once a failure is heard, who holds the store goes, and torch would write pages about it.
        while self.failure is None and not self._ending.wait(self.seconds if count else 0.0):
            count += 1
            try:
                if self._peers is None:
                    self._peers = Peers(self.rank, open_store(self.rank, self.seconds))
                self._exchange(self._peers, count)
                self.answered = time.monotonic()
            except dist.DistError:
                self._peers = None

    def _exchange(self, peers: Peers, count: int) -> None:
        place = WHEREABOUTS.place
        send_beat(
            peers,
            Beat(
                count=count,
                name=self.rank.name,
                node=self.rank.node,
                pid=os.getpid(),
                number=place.number,
                what=place.what,
                slow=place.slow,
            ),
        )
        heard = dict(self.heard)
        for rank, beat in read_beats(peers).items():
            if rank not in heard or heard[rank][1].count != beat.count:
                heard[rank] = time.monotonic(), beat
        self.heard = heard
        failure = peers.failure()
        if failure is not None and self.failure is None:
            self._main.remember(failure)
            self.failure = failure
            # So that who holds the store need not wait for a main thread that hangs.
            peers.acknowledge()
