from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexbert.config.data import SamplerConfig
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.data.sampling.samplers import (
    PermutationConfig,
    Sampler,
    SamplerKey,
    ShardBlocksConfig,
    build_sampler,
)
from flexbert.data.sampling.subset import Subset
from flexbert.errors import ConfigError
from tests.data.corpora import numbered_documents, write_corpus

ORDERS = [PermutationConfig(), ShardBlocksConfig(block_shards=3), ShardBlocksConfig()]
KEY = SamplerKey(1, "pretrain", ("s",))
GOLDEN_CHUNKS = [49, 39, 79, 92, 60]


@pytest.fixture
def chunks(train_split: Split) -> Chunks:
    return Chunks(train_split, Cut(128))


def whole_epoch(sampler: Sampler, chunks: Chunks, epoch: int) -> np.ndarray:
    return sampler.chunks(epoch, 0, len(chunks))


@pytest.mark.parametrize("config", ORDERS)
def test_every_epoch_is_a_permutation_of_its_own(config: SamplerConfig, chunks: Chunks) -> None:
    order = config.build(chunks, KEY, Path("unused"))
    first, second = whole_epoch(order, chunks, 0), whole_epoch(order, chunks, 1)
    assert sorted(first) == sorted(second) == list(range(len(chunks)))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(whole_epoch(order, chunks, 0), first)


@pytest.mark.parametrize("config", ORDERS)
@pytest.mark.parametrize(
    "other",
    [
        SamplerKey(2, "pretrain", ("s",)),
        SamplerKey(1, "extend", ("s",)),
        SamplerKey(1, "pretrain", "t"),
    ],
)
def test_another_seed_stage_or_source_has_another_order(
    config: SamplerConfig, other: SamplerKey, chunks: Chunks
) -> None:
    orders = [config.build(chunks, key, Path("unused")) for key in (KEY, other)]
    one, another = (whole_epoch(order, chunks, 0) for order in orders)
    assert not np.array_equal(one, another)


@pytest.mark.parametrize("config", ORDERS)
def test_any_part_of_an_epoch_is_read_as_the_whole_has_it(
    config: SamplerConfig, chunks: Chunks
) -> None:
    order = config.build(chunks, KEY, Path("unused"))
    whole = whole_epoch(order, chunks, 2)
    for begin, end in ((0, 1), (5, 5), (100, 260), (17, len(whole)), (len(whole) - 1, len(whole))):
        np.testing.assert_array_equal(order.chunks(2, begin, end), whole[begin:end])


@pytest.mark.parametrize("config", ORDERS)
def test_places_are_the_inverse_of_the_order(config: SamplerConfig, chunks: Chunks) -> None:
    order = config.build(chunks, KEY, Path("unused"))
    whole = whole_epoch(order, chunks, 1)
    numbers = np.array([7, 3, len(chunks) - 1, 3])
    places = order.places(1, numbers)
    np.testing.assert_array_equal(whole[places], numbers)
    everything = np.arange(len(chunks))
    np.testing.assert_array_equal(whole[order.places(1, everything)], everything)


def test_shard_blocks_read_few_shards_at_a_time(train_split: Split, chunks: Chunks) -> None:
    order = ShardBlocksConfig(block_shards=3).build(chunks, KEY, Path("unused"))
    whole = whole_epoch(order, chunks, 0)
    shards = train_split.shards_of(chunks.locate(whole)[0])
    borders = np.flatnonzero(np.diff(shards) != 0)
    assert len(borders) > 50  # chunks of a block are shuffled
    seen: dict[int, list[int]] = {}
    for place, shard in enumerate(shards.tolist()):
        seen.setdefault(shard, []).append(place)
    spans = sorted((places[0], places[-1]) for places in seen.values())
    # No shard is left and come back to: at most three are in use anywhere.
    for place in range(len(whole)):
        assert sum(first <= place <= last for first, last in spans) <= 3


@pytest.mark.parametrize("epoch", [0, 1])
def test_shards_are_known_before_they_are_read(
    train_split: Split, chunks: Chunks, epoch: int
) -> None:
    order = ShardBlocksConfig(block_shards=2).build(chunks, KEY, Path("unused"))
    for begin in range(0, len(chunks) - 50, 50):
        announced = order.shards_from(epoch, begin, begin + 50)
        read = train_split.shards_of(chunks.locate(order.chunks(epoch, begin, begin + 50))[0])
        assert set(read.tolist()) <= set(announced)
        assert len(announced) == len(set(announced))
        # The shards of the next block too, so that they can be fetched ahead.
        assert len(announced) > len(set(read.tolist()))


def test_some_documents_have_an_order_of_their_own(train_split: Split) -> None:
    subset = Chunks(train_split, Cut(128), Subset(200, 300, None, 1.0))
    for config in ORDERS:
        order = config.build(subset, KEY, Path("unused"))
        documents, _, _ = subset.locate(whole_epoch(order, subset, 0))
        lengths = train_split.lengths[np.unique(documents)]
        assert ((lengths >= 200) & (lengths < 300)).all()
        assert len(lengths) == ((train_split.lengths >= 200) & (train_split.lengths < 300)).sum()


@pytest.fixture
def hundred(tmp_path: Path) -> Chunks:
    folder = write_corpus(tmp_path / "c", numbered_documents([1] * 100))
    return Chunks(Corpus.open(folder).split("train"), Cut(3))


def test_the_order_does_not_change_from_one_release_to_the_next(hundred: Chunks) -> None:
    """NumPy may change Generator's streams; runs would then resume in another order."""
    order = PermutationConfig().build(hundred, KEY, Path("unused"))
    assert order.chunks(0, 0, 5).tolist() == GOLDEN_CHUNKS


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_order_is_the_same_in_every_process(hundred: Chunks, hash_seed: str) -> None:
    code = (
        "from flexbert.data.sampling.samplers import SamplerKey; "
        "print(SamplerKey(1, 'pretrain', ('s',)).derive('chunks', 5))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) == KEY.derive("chunks", 5)


def test_half_a_sampler_is_refused_before_it_is_asked(chunks: Chunks, tmp_path: Path) -> None:
    class Half(PermutationConfig):
        def build(self, chunks: Chunks, key: SamplerKey, cache: Path) -> Any:
            return object()

    with pytest.raises(ConfigError, match="lacks chunks, places, shards_from"):
        build_sampler(Half(), chunks, SamplerKey(1, "pretrain", ("s",)), tmp_path)
