"""What the processes of a run say to each other outside of training's collectives.

Everything goes through a key-value store, in JSON. A process that waits looks again and again, so
that signals reach it, and another process's failure does too.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore

from flexbert.errors import UserError
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.rank import Rank
from flexbert.train.processes.run_errors import OthersFailedError

_FAILURE, _ACKNOWLEDGED = "failure", "acknowledged"
# A store that takes longer to answer has a machine or a link that is gone.
ANSWER_SECONDS = 10.0
# How long the first process, which holds the store, stays for others to read why it ends.
LINGER_SECONDS = 10.0
_TRY_SECONDS = 2.0
_PAUSE_SECONDS = 0.1


class Peers:
    """The processes of a run, as one of them sees the others.

    ``gather``, ``broadcast``, ``meet`` and ``next_number`` are called by every process, in the same
    order.
    """

    def __init__(self, rank: Rank, store: Store) -> None:
        self.rank = rank
        self.store = store
        self._numbers = itertools.count()
        self._failure: OthersFailedError | None = None
        self._has_acknowledged = False

    def next_number(self) -> int:
        """A number that every process counts in the same way."""
        return next(self._numbers)

    def gather(self, what: str, value: Any, *, slow: bool = False) -> list[Any]:
        """What every process has to say, by rank; containers, strings and numbers.

        Args:
            what: names the occasion, to those who wait.
            slow: whether some process may take long to come to it.

        Raises:
            OthersFailedError: if a process ended the run meanwhile.
        """
        name = self._occasion(what, slow)
        keys = [f"{name}/{rank}" for rank in range(self.rank.world_size)]
        self.store.set(keys[self.rank.rank], json.dumps(value))
        self._wait(lambda: self.store.check(keys))
        return [json.loads(text) for text in self.store.multi_get(keys)]

    def broadcast(self, what: str, value: Callable[[], Any], *, slow: bool = False) -> Any:
        """What the first process says; the others wait for it.

        Args:
            value: called on the first process alone.

        Raises:
            OthersFailedError: if a process ended the run meanwhile.
        """
        name = self._occasion(what, slow)
        if self.rank.is_first:
            said = json.dumps(value())
            self.store.set(name, said)
            return json.loads(said)
        self._wait(lambda: self.store.check([name]))
        return json.loads(self.store.get(name))

    def meet(self, what: str, *, slow: bool = False) -> None:
        """Wait until every process has come here.

        Raises:
            OthersFailedError: if a process ended the run meanwhile.
        """
        name = self._occasion(what, slow)
        arrived = self.store.add(f"{name}/arrived", 1)
        if arrived == self.rank.world_size:
            self.store.set(f"{name}/all", "")
        self._wait(lambda: self.store.check([f"{name}/all"]))

    def decide(self, name: str, proposal: str) -> str:
        """What all processes do at ``name``: whatever the first to ask proposes."""
        if self.rank.world_size == 1:
            return proposal
        return self.store.compare_set(f"decide/{name}", "", proposal).decode()

    def decided(self, name: str) -> str | None:
        """What was decided at ``name``, if anything was."""
        if self.rank.world_size == 1 or not self.store.check([f"decide/{name}"]):
            return None
        return self.store.get(f"decide/{name}").decode()

    def forget(self, name: str) -> None:
        """Drop a decision that every process has read."""
        if self.rank.world_size > 1:
            self.store.delete_key(f"decide/{name}")

    def fail(self, text: str, exit_code: int) -> bool:
        """Tell the others that this process ends the run, and why.

        Returns:
            Whether it was the first to say so.
        """
        own = json.dumps(
            [self.rank.rank, self.rank.node, f"error in {self.rank.name}: {text}", exit_code]
        )
        return self.store.compare_set(_FAILURE, "", own).decode() == own

    def failure(self) -> OthersFailedError | None:
        """The failure that ended the run, if one did."""
        if self._failure is None and self.store.check([_FAILURE]):
            self._failure = OthersFailedError(*json.loads(self.store.get(_FAILURE)))
        return self._failure

    def remember(self, failure: OthersFailedError) -> None:
        """Keep a failure that was heard of, and acknowledged, through another connection.

        The store may be gone with the process that holds it.
        """
        self._failure = failure
        self._has_acknowledged = True

    def acknowledge(self) -> None:
        """Tell the first process, which holds the store, that this one needs it no more; once."""
        if self._has_acknowledged or self.rank.is_first:
            return
        self._has_acknowledged = True
        if self.store.add(f"{_ACKNOWLEDGED}/{self.rank.rank}", 1) == 1:
            self.store.add(_ACKNOWLEDGED, 1)

    def linger(self, told_to_go: Callable[[], bool] = lambda: False, lost: int = 0) -> None:
        """The first process, which holds the store, waits a while for others to acknowledge.

        Args:
            lost: how many of them will not.
        """
        deadline = time.monotonic() + LINGER_SECONDS
        others = self.rank.world_size - 1 - lost
        if self.rank.is_first and others > 0:
            while time.monotonic() < deadline and not told_to_go():
                if self.store.add(_ACKNOWLEDGED, 0) >= others:
                    return
                time.sleep(0.05)

    def leave(self) -> None:
        """The run has ended well on every process; nobody needs the store any more."""
        number = self.next_number()
        WHEREABOUTS.reach("at the end of the run")
        left = self.store.add(f"left/{number}", 1)
        if self.rank.is_first:
            while left < self.rank.world_size:
                self.raise_failure()
                time.sleep(0.02)
                left = self.store.add(f"left/{number}", 0)

    def _occasion(self, what: str, slow: bool) -> str:
        WHEREABOUTS.reach(what, slow=slow)
        return f"occasion/{self.next_number()}"

    def _wait(self, ready: Callable[[], bool]) -> None:
        pause = 0.001
        while not ready():
            self.raise_failure()
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def raise_failure(self) -> None:
        """Raises: OthersFailedError if a process has ended the run."""
        failure = self.failure()
        if failure is not None:
            raise failure


def open_store(rank: Rank, seconds: float) -> Store:
    """A connection of its own to the store that the first process holds.

    Args:
        seconds: how long to try.

    Raises:
        dist.DistError: if there is none, or it does not answer.
    """
    if rank.world_size == 1:
        return HashStore()
    deadline = time.monotonic() + seconds
    # torchrun holds a store at that address itself.
    holds = rank.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address = _address()
    while True:
        try:
            if not holds:
                _require_listener(*address)
            store = TCPStore(
                *address,
                None,
                holds,
                datetime.timedelta(seconds=_TRY_SECONDS),
                wait_for_workers=False,
                # torch's process group opens one at the same port, in the same process.
                multi_tenant=True,
            )
        except dist.DistError:
            # In short attempts, so that signals are seen between them.
            if time.monotonic() >= deadline:
                raise
            continue
        store.set_timeout(datetime.timedelta(seconds=ANSWER_SECONDS))
        return PrefixStore("flexbert", store)


def _address() -> tuple[str, int]:
    """Where the store is.

    Raises:
        UserError: if no launcher has said so.
    """
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not host or not port.isdecimal():
        raise UserError(
            f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, and MASTER_ADDR and MASTER_PORT are "
            f"{host or 'nothing'} and {port or 'nothing'}: a launcher sets all three, see "
            "docs/launching.md"
        )
    return host, int(port)


def _require_listener(host: str, port: int) -> None:
    """Where nobody listens, torch would write pages about it, after whatever else is said.

    Raises:
        dist.DistNetworkError: if nobody does.
    """
    try:
        socket.create_connection((host, port), timeout=_TRY_SECONDS).close()
    except OSError as error:
        time.sleep(_PAUSE_SECONDS)
        raise dist.DistNetworkError(f"{host}:{port}: {error.strerror or error}") from None


def join_peers(seconds: float) -> Peers:
    """The processes of this run; whoever comes early waits for the one that holds the store.

    There is one for each process, as there is one default process group of torch.

    Args:
        seconds: how long to wait.

    Raises:
        dist.DistError: if there is no such process, or it does not answer.
    """
    if not _JOINED:
        rank = Rank.here()
        _JOINED.append(Peers(rank, open_store(rank, seconds)))
    return _JOINED[0]


_JOINED: list[Peers] = []
