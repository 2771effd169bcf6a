"""What a process says of itself every few seconds, for those that wait for it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from flexbert.train.processes.peers import Peers
from flexbert.train.processes.rank import started_at

BEAT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Beat:
    """
    Attributes:
        count: of the process's beats.
        name: of the process, for messages.
        node, pid: of the process.
        number, what, slow: see :class:`~flexbert.train.processes.place.Place`.
    """

    count: int
    name: str
    node: int
    pid: int
    number: int
    what: str
    slow: bool


def send_beat(peers: Peers, beat: Beat) -> None:
    peers.store.set(_key(peers.rank.rank), json.dumps(asdict(beat)))


def read_beats(peers: Peers) -> dict[int, Beat]:
    """The last beat of every other process that has had one, by rank."""
    others = (rank for rank in range(peers.rank.world_size) if rank != peers.rank.rank)
    known = [rank for rank in others if peers.store.check([_key(rank)])]
    texts = peers.store.multi_get([_key(rank) for rank in known]) if known else []
    return {rank: Beat(**json.loads(text)) for rank, text in zip(known, texts, strict=True)}


def lost_processes(peers: Peers) -> list[str]:
    """The names of those that have ended, on this node, or have no beat any more.

    The latter takes as long as two beats, and is looked for where the former finds nothing.
    """
    before = read_beats(peers)
    ended = [
        beat.name
        for beat in before.values()
        if beat.node == peers.rank.node and started_at(beat.pid) is None
    ]
    if ended:
        return ended
    time.sleep(2 * BEAT_SECONDS + 1)
    after = read_beats(peers)
    return [beat.name for rank, beat in after.items() if before.get(rank) == beat]


def _key(rank: int) -> str:
    return f"beat/{rank}"
