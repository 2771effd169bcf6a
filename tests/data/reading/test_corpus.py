from __future__ import annotations

import json
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flexbert.config.data import DataConfig
from flexbert.data.format.corpus_format import LENGTHS_FILE, TOKENIZER_FOLDER, CorpusError
from flexbert.data.reading import corpus as corpus_module
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.data.sampling.samplers import PermutationConfig
from flexbert.errors import ConfigError
from tests.data.corpora import numbered_documents, write_corpus

# Around the borders at which MDS spends another byte on the number of tokens.
LENGTHS = [1, 255, 256, 65_535, 65_536, 7]


def read_all(split: Split) -> np.ndarray:
    numbers = np.arange(split.num_documents)
    return split.gather(numbers, np.zeros_like(numbers), split.lengths.astype(np.int64))


@pytest.fixture
def copied(small_corpus: Path, tmp_path: Path) -> Path:
    """The small corpus, free to be damaged."""
    return Path(shutil.copytree(small_corpus, tmp_path / "copied"))


@pytest.mark.parametrize("vocab_size", [60_000, 100_000])
def test_documents_are_read_as_they_were_written(tmp_path: Path, vocab_size: int) -> None:
    documents = numbered_documents(LENGTHS, vocab_size)
    folder = write_corpus(tmp_path / "c", documents, vocab_size=vocab_size)
    split = Corpus.open(folder).split("train")
    assert split.num_tokens == sum(LENGTHS)
    read = read_all(split)
    assert read.dtype == (np.uint16 if vocab_size < 65_536 else np.uint32)
    np.testing.assert_array_equal(read, np.concatenate(documents))


def test_any_part_of_a_document_can_be_read(tmp_path: Path) -> None:
    documents = numbered_documents(LENGTHS)
    split = Corpus.open(write_corpus(tmp_path / "c", documents)).split("train")
    read = split.gather(np.array([4, 1]), np.array([65_000, 3]), np.array([100, 2]))
    np.testing.assert_array_equal(
        read, np.concatenate([documents[4][65_000:65_100], documents[1][3:5]])
    )


def test_a_split_pickles_as_its_address(train_split: Split) -> None:
    expected = read_all(train_split)
    pickled = pickle.dumps(train_split)
    assert len(pickled) < 1_000
    np.testing.assert_array_equal(read_all(pickle.loads(pickled)), expected)


def test_a_moved_corpus_keeps_its_fingerprint_and_another_has_another(
    train_split: Split, validation_split: Split, copied: Path
) -> None:
    assert Corpus.open(copied).split("train").fingerprint == train_split.fingerprint
    assert train_split.fingerprint != validation_split.fingerprint


def test_a_corpus_of_another_tokenizer_is_refused(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    config = DataConfig(
        path=copied,
        sampler=PermutationConfig(),
        mask_rate=0.3,
        max_length=8,
        row_length=8,
        tokenizer=other,
    )
    with pytest.raises(CorpusError, match="made with another tokenizer"):
        Corpora.open(config)
    shutil.copy(other / "tokenizer.json", copied / TOKENIZER_FOLDER)
    with pytest.raises(CorpusError, match="made with another tokenizer"):
        Corpus.open(copied)


def test_a_recipe_without_a_corpus_cannot_train() -> None:
    with pytest.raises(ConfigError, match=r"data\.path: names no corpus"):
        Corpora.open(
            DataConfig(
                path=None, sampler=PermutationConfig(), mask_rate=0.3, max_length=8, row_length=8
            )
        )


def test_an_unknown_split_names_the_nearest(copied: Path) -> None:
    with pytest.raises(CorpusError, match="did you mean 'validation'"):
        Corpus.open(copied).split("validatoin")


def _remove(file: Path) -> None:
    file.unlink()


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [(_remove, "No such file"), (_truncate, "its index says"), (_flip, "xxh3_64 hash")],
)
def test_a_damaged_shard_is_named(
    copied: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(copied / "train" / "shard.00002.mds")
    with pytest.raises(CorpusError, match=rf"shard\.00002\.mds: .*{problem}"):
        Corpus.open(copied).split("train")


def test_large_splits_are_compared_with_their_hashes_only_when_asked(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "VERIFY_BELOW", 0)
    _flip(copied / "train" / "shard.00002.mds")
    Corpus.open(copied).split("train")
    with pytest.raises(CorpusError, match="xxh3_64 hash"):
        Corpus.open(copied).split("train", verify_hashes=True)


def test_a_shard_whose_offsets_are_wrong_is_named_when_it_is_read(copied: Path) -> None:
    shard = copied / "train" / "shard.00000.mds"
    content = bytearray(shard.read_bytes())
    content[8] ^= 1
    shard.write_bytes(content)
    split = Corpus.open(copied).split("train", verify_hashes=False)
    with pytest.raises(CorpusError, match=r"shard\.00000\.mds: its offsets contradict"):
        read_all(split)


def test_a_shard_lost_after_opening_is_named(copied: Path) -> None:
    split = Corpus.open(copied).split("train")
    _remove(copied / "train" / "shard.00000.mds")
    with pytest.raises(CorpusError, match=r"shard\.00000\.mds: cannot be mapped"):
        read_all(split)


def _edit_index(folder: Path, edit: Callable[[dict], object]) -> None:
    file = folder / "train" / "index.json"
    index = json.loads(file.read_text())
    edit(index)
    file.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda index: index.clear(), "not an MDS index"),
        (lambda index: index["shards"].pop(), "corpus.json counts"),
        (lambda index: index["shards"][0].update(compression="zstd"), "not uncompressed MDS"),
        (lambda index: index["shards"][0].update(column_names=["text"]), "not uncompressed MDS"),
    ],
)
def test_a_wrong_index_is_refused(
    copied: Path, edit: Callable[[dict], object], problem: str
) -> None:
    _edit_index(copied, edit)
    with pytest.raises(CorpusError, match=problem):
        Corpus.open(copied).split("train")


def test_lengths_must_agree_with_the_corpus(copied: Path) -> None:
    file = copied / "train" / LENGTHS_FILE
    lengths = np.fromfile(file, "<u4")
    moved = lengths.copy()
    moved[:2] = 0, lengths[:2].sum()
    for wrong, problem in (
        (lengths[1:], "not the lengths of 300 documents"),
        (lengths + 1, "documents have 63375 tokens, corpus.json counts 63075"),
        (moved, "document 0 is empty"),
    ):
        wrong.astype("<u4").tofile(file)
        with pytest.raises(CorpusError, match=problem):
            Corpus.open(copied).split("train")


def test_an_empty_split_opens_and_has_no_chunks(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "c", numbered_documents([3]))
    split = Corpus.open(folder).split("validation")
    assert len(split.lengths) == 0
    with pytest.raises(CorpusError, match="this split has no documents"):
        Chunks(split, Cut(8))


def test_more_shards_than_a_process_may_open_are_read_some_at_a_time(
    copied: Path, train_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_all(train_split)
    monkeypatch.setattr(corpus_module, "_OTHER_FILES", 20)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 22))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    split = Corpus.open(copied).split("train")
    np.testing.assert_array_equal(read_all(split), expected)
    assert len(split._open_shards) == 2


def test_the_soft_limit_of_open_files_is_raised_where_shards_need_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 100_000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    split = Corpus.open(copied).split("train")
    assert limits == [(20 + len(list(split.folder.glob("*.mds"))), 100_000)]
