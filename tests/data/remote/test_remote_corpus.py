"""Training from a corpus elsewhere sees what training from a local one does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flexbert.config.data import DataConfig
from flexbert.config.num_bytes import NumBytes
from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Corpus
from flexbert.data.sampling.samplers import PermutationConfig, ShardBlocksConfig
from flexbert.errors import ConfigError
from tests.data.corpora import loader_of_splits, numbered_documents, write_corpus

SHARD_BYTES = 1 << 14


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of about 60 shards."""
    lengths = np.random.default_rng(0).integers(100, 400, 1800).tolist()
    documents = numbered_documents(lengths)
    folder = tmp_path_factory.mktemp("remote") / "c"
    return write_corpus(folder, documents, documents[:20], shard_bytes=SHARD_BYTES)


def batches(config: DataConfig, num_updates: int) -> list[np.ndarray]:
    splits = Corpora.open(config).splits("train")
    loader = loader_of_splits(splits, config, rows_per_update=lambda _: 8, microbatch_rows=8)
    taken = itertools.islice(loader, num_updates)
    return [batch["microbatches"][0]["input_ids"].numpy() for batch in taken]


def kept_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "train").glob("*.mds"))


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bounded_cache_changes_nothing_in_the_batches(
    small_config: DataConfig, remote: Path, tmp_path: Path, num_workers: int
) -> None:
    order = ShardBlocksConfig(block_shards=4)
    local = replace(small_config, path=remote, sampler=order)
    num_updates = 500  # more than an epoch
    expected = batches(local, num_updates)
    limit = NumBytes(1 << 18)  # three blocks, a quarter of the shards
    assert kept_bytes(remote) > 3 * limit.value
    copy = tmp_path / "copy"
    fetched = replace(
        local, path=copy, remote=str(remote), cache_limit=limit, num_workers=num_workers
    )
    found = batches(fetched, num_updates)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 < kept_bytes(copy) <= limit.value


def test_a_global_order_keeps_every_shard(
    small_config: DataConfig, remote: Path, tmp_path: Path
) -> None:
    local = replace(small_config, path=remote)
    fetched = replace(local, path=tmp_path / "copy", remote=str(remote))
    for one, other in zip(batches(fetched, 20), batches(local, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    limited = replace(fetched, cache_limit=NumBytes(1 << 18))
    with pytest.raises(ConfigError, match="name: shard_blocks"):
        batches(limited, 1)
    # Three blocks of two shards have to be at hand.
    blocks = replace(
        limited, sampler=ShardBlocksConfig(block_shards=2), cache_limit=NumBytes(1 << 16)
    )
    with pytest.raises(ConfigError, match=r"too little: .* set it to at least 1mb"):
        batches(blocks, 1)
    with pytest.raises(ConfigError, match="would do nothing: no corpus is remote"):
        replace(local, sampler=PermutationConfig(), cache_limit=NumBytes(1))


def test_a_remote_corpus_that_was_made_anew_is_noticed(
    small_config: DataConfig, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "a", numbered_documents([5, 6]))
    Corpus.open(tmp_path / "copy", remote=str(tmp_path / "a")).split("train")
    write_corpus(tmp_path / "b", numbered_documents([7, 8]))
    with pytest.raises(CorpusError, match="copy"):
        Corpus.open(tmp_path / "copy", remote=str(tmp_path / "b"))
