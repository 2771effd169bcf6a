"""Document sets are the paper's, batches hold every document, and batch sizes fit into memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.document_sets import SETS, packed_batches, padded_batches, token_budget
from benchmarks.inference import batch_sizes, best_size
from flexbert.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", SETS)
def test_lengths_are_those_of_the_paper(name: str) -> None:
    lengths = SETS[name].lengths(8192)
    longest = 512 if name.endswith("512") else 8192
    assert len(lengths) == 8192
    assert lengths.min() >= 1
    assert lengths.max() <= longest
    if name.startswith("fixed"):
        assert set(lengths) == {longest}
    else:
        # Some sixty documents in a million lie beyond four deviations and are clipped.
        assert lengths.mean() == pytest.approx(longest / 2, rel=0.01)
        assert lengths.std() == pytest.approx(longest / 8, rel=0.03)
        assert not (np.diff(lengths) >= 0).all()


def test_smaller_documents_have_the_same_proportions() -> None:
    lengths = SETS["normal-8192"].lengths(1000, divisor=16)
    assert lengths.max() <= 512
    assert lengths.mean() == pytest.approx(256, rel=0.02)


@pytest.mark.parametrize("size", [1, 4, 7, 30])
def test_batches_hold_every_document_in_order(size: int) -> None:
    lengths = SETS["normal-512"].lengths(30)
    padded = padded_batches(lengths, size, 100, CPU)
    assert [int(n) for _, mask in padded for n in mask.sum(1)] == lengths.tolist()
    assert all(mask.shape == ids.shape and mask.any(0).all() for ids, mask in padded)
    assert all(len(ids) == size for ids, _ in padded[:-1])
    # Padding stands on the right.
    assert all(mask[:, 0].all() and (mask.int().diff() <= 0).all() for _, mask in padded)

    packed = [batch for (batch,) in packed_batches(lengths, size, 100, CPU)]
    assert [int(n) for batch in packed for n in batch.cu_seqlens.diff()] == lengths.tolist()
    most = token_budget(lengths, size)
    assert all(len(b.tokens) <= most or len(b.cu_seqlens) == 2 for b in packed)
    assert len(padded) <= len(packed) <= 2 * len(padded)


@pytest.mark.parametrize(
    ("documents", "factor", "sizes"),
    [(1, 2, [1]), (2, 4, [1, 2]), (16, 4, [1, 4, 16]), (20, 2, [1, 2, 4, 8, 16, 20])],
)
def test_batch_sizes_grow_to_all_documents(documents: int, factor: int, sizes: list[int]) -> None:
    assert batch_sizes(documents, factor) == sizes


def test_the_fastest_batch_that_fits_is_taken() -> None:
    tried = []

    def speed(size: int) -> float:
        tried.append(size)
        if size > 8:
            raise torch.cuda.OutOfMemoryError
        return {1: 10.0, 2: 30.0, 4: 50.0, 8: 40.0}[size]

    assert best_size([1, 2, 4, 8, 16, 32], speed) == 4
    assert tried == [1, 2, 4, 8, 16]


def test_an_encoder_that_does_not_fit_at_all_is_an_error() -> None:
    def speed(size: int) -> float:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(UserError, match="does not fit"):
        best_size([1, 2], speed)
