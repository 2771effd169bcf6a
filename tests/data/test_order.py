from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flexbert.config.data import OrderConfig
from flexbert.data.corpus import Corpus, Split
from flexbert.data.order import GlobalOrderConfig, Order, OrderKey, ShardBlocksConfig
from flexbert.data.pieces import Cut, Pieces
from flexbert.data.subset import Subset
from tests.data.corpora import numbered_documents, write_corpus

ORDERS = [GlobalOrderConfig(), ShardBlocksConfig(block_shards=3), ShardBlocksConfig()]
KEY = OrderKey(1, "pretrain", ("s",))
GOLDEN_PIECES = [49, 39, 79, 92, 60]


@pytest.fixture
def pieces(train_split: Split) -> Pieces:
    return Pieces(train_split, Cut(128))


def whole_epoch(order: Order, pieces: Pieces, epoch: int) -> np.ndarray:
    return order.pieces(epoch, 0, len(pieces))


@pytest.mark.parametrize("config", ORDERS)
def test_every_epoch_is_a_permutation_of_its_own(config: OrderConfig, pieces: Pieces) -> None:
    order = config.build(pieces, KEY, Path("unused"))
    first, second = whole_epoch(order, pieces, 0), whole_epoch(order, pieces, 1)
    assert sorted(first) == sorted(second) == list(range(len(pieces)))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(whole_epoch(order, pieces, 0), first)


@pytest.mark.parametrize("config", ORDERS)
@pytest.mark.parametrize(
    "other",
    [OrderKey(2, "pretrain", ("s",)), OrderKey(1, "extend", ("s",)), OrderKey(1, "pretrain", "t")],
)
def test_another_seed_stage_or_source_has_another_order(
    config: OrderConfig, other: OrderKey, pieces: Pieces
) -> None:
    orders = [config.build(pieces, key, Path("unused")) for key in (KEY, other)]
    one, another = (whole_epoch(order, pieces, 0) for order in orders)
    assert not np.array_equal(one, another)


@pytest.mark.parametrize("config", ORDERS)
def test_any_part_of_an_epoch_is_read_as_the_whole_has_it(
    config: OrderConfig, pieces: Pieces
) -> None:
    order = config.build(pieces, KEY, Path("unused"))
    whole = whole_epoch(order, pieces, 2)
    for begin, end in ((0, 1), (5, 5), (100, 260), (17, len(whole)), (len(whole) - 1, len(whole))):
        np.testing.assert_array_equal(order.pieces(2, begin, end), whole[begin:end])


@pytest.mark.parametrize("config", ORDERS)
def test_places_are_the_inverse_of_the_order(config: OrderConfig, pieces: Pieces) -> None:
    order = config.build(pieces, KEY, Path("unused"))
    whole = whole_epoch(order, pieces, 1)
    numbers = np.array([7, 3, len(pieces) - 1, 3])
    places = order.places(1, numbers)
    np.testing.assert_array_equal(whole[places], numbers)
    everything = np.arange(len(pieces))
    np.testing.assert_array_equal(whole[order.places(1, everything)], everything)


def test_shard_blocks_read_few_shards_at_a_time(train_split: Split, pieces: Pieces) -> None:
    order = ShardBlocksConfig(block_shards=3).build(pieces, KEY, Path("unused"))
    whole = whole_epoch(order, pieces, 0)
    shards = train_split.shards_of(pieces.locate(whole)[0])
    borders = np.flatnonzero(np.diff(shards) != 0)
    assert len(borders) > 50  # pieces of a block are shuffled
    seen: dict[int, list[int]] = {}
    for place, shard in enumerate(shards.tolist()):
        seen.setdefault(shard, []).append(place)
    spans = sorted((places[0], places[-1]) for places in seen.values())
    # No shard is left and come back to: at most three are in use anywhere.
    for place in range(len(whole)):
        assert sum(first <= place <= last for first, last in spans) <= 3


@pytest.mark.parametrize("epoch", [0, 1])
def test_shards_are_known_before_they_are_read(
    train_split: Split, pieces: Pieces, epoch: int
) -> None:
    order = ShardBlocksConfig(block_shards=2).build(pieces, KEY, Path("unused"))
    for begin in range(0, len(pieces) - 50, 50):
        announced = order.shards_from(epoch, begin, begin + 50)
        read = train_split.shards_of(pieces.locate(order.pieces(epoch, begin, begin + 50))[0])
        assert set(read.tolist()) <= set(announced)
        assert len(announced) == len(set(announced))
        # The shards of the next block too, so that they can be fetched ahead.
        assert len(announced) > len(set(read.tolist()))


def test_some_documents_have_an_order_of_their_own(train_split: Split) -> None:
    subset = Pieces(train_split, Cut(128), Subset(200, 300, None, 1.0))
    for config in ORDERS:
        order = config.build(subset, KEY, Path("unused"))
        documents, _, _ = subset.locate(whole_epoch(order, subset, 0))
        lengths = train_split.lengths[np.unique(documents)]
        assert ((lengths >= 200) & (lengths < 300)).all()
        assert len(lengths) == ((train_split.lengths >= 200) & (train_split.lengths < 300)).sum()


@pytest.fixture
def hundred(tmp_path: Path) -> Pieces:
    folder = write_corpus(tmp_path / "c", numbered_documents([1] * 100))
    return Pieces(Corpus.open(folder).split("train"), Cut(3))


def test_the_order_does_not_change_from_one_release_to_the_next(hundred: Pieces) -> None:
    """NumPy may change Generator's streams; runs would then resume in another order."""
    order = GlobalOrderConfig().build(hundred, KEY, Path("unused"))
    assert order.pieces(0, 0, 5).tolist() == GOLDEN_PIECES


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_order_is_the_same_in_every_process(hundred: Pieces, hash_seed: str) -> None:
    code = (
        "from flexbert.data.order import OrderKey; "
        "print(OrderKey(1, 'pretrain', ('s',)).derive('pieces', 5))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) == KEY.derive("pieces", 5)
