"""What processes say to each other outside of collectives."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from flexbert.train.processes.peers import Peers
from flexbert.train.processes.run_errors import OthersFailedError
from tests.train.processes.ranks import on_ranks


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_everybody_hears_what_everybody_says(world_size: int) -> None:
    def work(peers: Peers) -> list[Any]:
        rank = peers.rank.rank
        time.sleep(random.Random(rank).random() / 10)
        said = peers.gather("one", {"rank": rank, "list": [rank, None, 1.5]})
        first = peers.broadcast("two", lambda: f"from {rank}")
        peers.meet("three")
        again = peers.gather("four", rank)
        peers.leave()
        return [said, first, again]

    everyone = [{"rank": rank, "list": [rank, None, 1.5]} for rank in range(world_size)]
    expected = [everyone, "from 0", list(range(world_size))]
    assert on_ranks(world_size, work) == [expected] * world_size


def test_what_is_first_proposed_is_done_by_all() -> None:
    def work(peers: Peers) -> list[str]:
        return [peers.decide(str(n), f"rank {peers.rank.rank}") for n in range(50)]

    (first, *others) = on_ranks(4, work)
    assert all(other == first for other in others)
    assert isinstance(first, list)


def test_a_decision_is_seen_before_one_has_to_make_it() -> None:
    def work(peers: Peers) -> Any:
        before = peers.decided("stop")
        peers.meet("before")
        if peers.rank.is_first:
            peers.decide("stop", "yes")
        peers.meet("after")
        return before, peers.decided("stop")

    assert on_ranks(3, work) == [(None, "yes")] * 3


def test_who_waits_hears_of_the_first_failure() -> None:
    def work(peers: Peers) -> Any:
        if peers.rank.rank == 2:
            assert peers.fail("the disk is full", 2)
            assert not peers.fail("another reason", 3)
            return "failed"
        peers.meet("never complete")
        return None

    zero, one, two, three = on_ranks(4, work)
    assert two == "failed"
    for other in (zero, one, three):
        assert isinstance(other, OthersFailedError)
        assert (other.rank, other.node, other.exit_code) == (2, 1, 2)
        assert other.text.startswith("error in rank 2 (")
        assert other.text.endswith("the disk is full")


def test_the_first_process_stays_until_each_of_the_others_has_understood() -> None:
    def work(peers: Peers) -> float:
        if peers.rank.is_first:
            peers.fail("the disk is full", 2)
            peers.acknowledge()  # by itself it is not waited for
        begun = time.monotonic()
        if peers.rank.rank == 1:
            for _ in range(3):
                peers.acknowledge()
        elif peers.rank.rank == 2:
            time.sleep(0.5)
            peers.acknowledge()
        peers.linger()
        return time.monotonic() - begun

    first, *_ = on_ranks(3, work)
    assert isinstance(first, float)
    assert first >= 0.4


def test_a_failure_is_known_when_the_store_is_gone_with_who_held_it() -> None:
    def work(peers: Peers) -> Any:
        failure = OthersFailedError(0, 0, "error in rank 0: the disk is full", 2)
        peers.remember(failure)
        peers.store = None  # type: ignore[assignment]
        return peers.failure() is failure

    assert on_ranks(2, work) == [True, True]
