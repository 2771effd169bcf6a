"""Several processes' sides of a run, played by threads of one process over one real store."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch.distributed import TCPStore

from flexbert.train.processes.peers import Peers
from flexbert.train.processes.rank import Rank

T = TypeVar("T")
PATIENCE_SECONDS = 60


def on_ranks(world_size: int, work: Callable[[Peers], T]) -> list[T | BaseException]:
    """What ``work`` returns, or raises, on each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    patience = datetime.timedelta(seconds=PATIENCE_SECONDS)
    master = TCPStore("127.0.0.1", port, None, True, patience, wait_for_workers=False)

    def one(rank: int) -> T | BaseException:
        store = TCPStore("127.0.0.1", port, None, False, patience, wait_for_workers=False)
        # Two processes a node.
        here = Rank(rank=rank, world_size=world_size, local_rank=rank % 2, node=rank // 2)
        try:
            return work(Peers(here, store))
        except BaseException as error:
            return error

    with ThreadPoolExecutor(world_size) as threads:
        results = list(threads.map(one, range(world_size), timeout=PATIENCE_SECONDS))
    del master
    return results
