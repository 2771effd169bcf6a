from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexbert.data.reading.corpus import Corpus
from flexbert.data.sampling.chunks import NUM_SPECIALS, Chunks, Cut
from tests.data.corpora import numbered_documents, write_corpus


def chunks_of(lengths: list[int], max_length: int, merge_below: int = 0) -> Chunks:
    """Chunks of documents that have nothing but a length."""
    array = np.array(lengths, np.uint32)
    split = SimpleNamespace(
        lengths=array,
        num_documents=len(array),
        num_tokens=sum(lengths),
        require_documents=lambda: None,
    )
    return Chunks(split, Cut(max_length, merge_below))


def reference(lengths: list[int], content: int) -> set[tuple[int, int, int]]:
    """(document, start, tokens) of every chunk."""
    return {
        (document, start, min(content, length - start))
        for document, length in enumerate(lengths)
        for start in range(0, length, content)
    }


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(3, 70))
def test_chunks_cover_every_token_exactly_once(lengths: list[int], max_length: int) -> None:
    chunks = chunks_of(lengths, max_length)
    numbers = np.arange(len(chunks))
    documents, starts, sizes = chunks.locate(numbers)
    found = list(zip(documents.tolist(), starts.tolist(), sizes.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == reference(lengths, max_length - NUM_SPECIALS)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 100))
def test_a_sample_is_spread_over_all_chunks(lengths: list[int], size: int) -> None:
    chunks = chunks_of(lengths, 8)
    sample = chunks.sample(size)
    assert len(sample) == min(size, len(chunks))
    assert len(set(sample)) == len(sample)
    assert sample.max() < len(chunks)
    assert np.ptp(np.diff(np.append(sample, len(chunks)))) <= 1


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64, np.int64])
def test_numbers_of_any_dtype_are_located_alike(dtype: type) -> None:
    documents, starts, counts = chunks_of([9, 3, 20], 8).locate(np.arange(7).astype(dtype))
    assert documents.tolist() == [0, 1, 2, 0, 2, 2, 2]
    assert starts.tolist() == [0, 0, 0, 6, 6, 12, 18]
    assert counts.tolist() == [6, 3, 6, 3, 6, 6, 2]
    assert documents.dtype == starts.dtype == counts.dtype == np.int64


def test_a_document_of_more_than_a_million_tokens_loses_none(tmp_path: Path) -> None:
    document = numbered_documents([1_200_001])[0]
    folder = write_corpus(tmp_path / "c", [document], shard_bytes=1 << 23)
    split = Corpus.open(folder).split("train")
    chunks = Chunks(split, Cut(1024))
    numbers = np.arange(len(chunks))
    np.testing.assert_array_equal(split.gather(*chunks.locate(numbers)), document)
