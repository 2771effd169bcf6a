"""One small corpus for the tests of flexbert.data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from flexbert.config.data import DataConfig
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.data.sampling.samplers import PermutationConfig
from tests.data.corpora import numbered_documents, write_corpus

# The first example of a test may wait for numba to compile.
settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 300 documents of 1 to 400 tokens in some ten shards, and 60 to validate on."""
    lengths = np.random.default_rng(0).integers(1, 400, 360).tolist()
    documents = numbered_documents(lengths)
    folder = tmp_path_factory.mktemp("corpus") / "c"
    return write_corpus(folder, documents[:300], documents[300:], words=True)


@pytest.fixture
def small_config(small_corpus: Path, tmp_path: Path) -> DataConfig:
    """Settings that cut the documents, fill several windows and keep tests fast."""
    return DataConfig(
        path=small_corpus,
        sampler=PermutationConfig(),
        mask_rate=0.3,
        max_length=128,
        row_length=256,
        packing_window=100,
        num_workers=0,
        cache=tmp_path / "orders",
    )


@pytest.fixture
def train_split(small_corpus: Path) -> Split:
    return Corpus.open(small_corpus).split("train")


@pytest.fixture
def validation_split(small_corpus: Path) -> Split:
    return Corpus.open(small_corpus).split("validation")
