"""The neighbour model and the entropy: probabilities, limits, closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.baseline import masked_loss
from data_prep.cli import main
from data_prep.unigram import unigram_entropy
from flexbert.data.counting import neighbours
from flexbert.data.counting.neighbours import NeighbourModel, neighbour_model

VOCAB = 30


@pytest.fixture(scope="module")
def model() -> NeighbourModel:
    """Counted and tuned on 45 documents; two of them tune."""
    random = np.random.default_rng(0)
    return neighbour_model(
        [random.zipf(1.5, 40).clip(max=VOCAB - 1).astype(np.uint16) for _ in range(45)], VOCAB
    )


def test_probabilities_of_a_tuned_model_sum_to_one(model: NeighbourModel) -> None:
    tokens = np.arange(VOCAB)
    for left, right in np.random.default_rng(1).integers(0, VOCAB, (20, 2)):
        probabilities = np.exp(model.log_prob(np.full(VOCAB, left), tokens, np.full(VOCAB, right)))
        assert probabilities.min() > 0
        assert probabilities.sum() == pytest.approx(1)


def test_a_masked_neighbour_is_seen_as_the_mask(model: NeighbourModel) -> None:
    tokens, mask = np.array([1, 3, 4, 5, 2]), 0
    loss = masked_loss(model, tokens, np.array([False, True, True, False, False]), mask)
    expected = -model.log_prob(np.array([1, mask]), np.array([3, 4]), np.array([mask, 5]))
    np.testing.assert_array_equal(loss, expected)


def test_a_text_too_small_or_a_vocabulary_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="no training position"):
        neighbour_model([np.array([0, 1])], 6)
    with pytest.raises(ValueError, match="64-bit"):
        neighbour_model([np.array([0, 1, 2])], 1 << 21)


def test_counting_stops_where_memory_would_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [np.array([0, 2, 3, 1]), np.array([0, 4, 4, 1])]
    first_alone = neighbour_model(documents[:1], 6).counts.unigram
    monkeypatch.setattr(neighbours, "MAX_TRIPLES", 1)
    np.testing.assert_array_equal(neighbour_model(documents, 6).counts.unigram, first_alone)


@given(st.lists(st.integers(0, 50), min_size=1).filter(any))
def test_entropy_equals_its_definition(counts: list[int]) -> None:
    shares = [count / sum(counts) for count in counts if count]
    expected = -math.fsum(share * math.log(share) for share in shares)
    assert unigram_entropy(np.array(counts)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 37])
def test_entropy_of_equal_counts_is_the_logarithm_of_their_number(size: int) -> None:
    assert unigram_entropy(np.full(size, 5)) == pytest.approx(math.log(size), abs=1e-12)


def test_a_mask_rate_that_masks_nothing_is_refused(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", str(corpus), "--mask-rate", "1e-12", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "masks no token" in captured.err
