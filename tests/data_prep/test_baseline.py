"""The neighbour model against its formula, written out plainly."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from data_prep.cli import main
from data_prep.unigram import unigram_counts, unigram_entropy
from flexbert.data.counting.neighbours import (
    DISCOUNT,
    NeighbourCounts,
    NeighbourModel,
    NeighbourWeights,
    Triples,
    neighbour_model,
)

SIZE = 6
DOCUMENTS = [
    np.array(d, np.uint16) for d in ([0, 3, 4, 3, 4, 5, 1], [0, 4, 3, 3, 5, 1], [0, 5, 4, 3, 1])
]


def triples() -> Triples:
    return Triples(
        left=np.concatenate([d[:-2] for d in DOCUMENTS]),
        token=np.concatenate([d[1:-1] for d in DOCUMENTS]),
        right=np.concatenate([d[2:] for d in DOCUMENTS]),
    )


def by_formula(left: int, right: int, a: float, b: float, k: float) -> list[float]:
    """p(t | left, right) for every t, as the module's docstring states it."""
    seen = [
        (int(x), int(t), int(y))
        for d in DOCUMENTS
        for x, t, y in zip(d, d[1:], d[2:], strict=False)
    ]
    tokens = [t for _, t, _ in seen]
    p0 = [(tokens.count(t) + 1) / (len(tokens) + SIZE) for t in range(SIZE)]

    def smoothed(weight: float, prior: list[float], x: int | None, y: int | None) -> list[float]:
        beside = [t for before, t, after in seen if x in (None, before) and y in (None, after)]
        discounted = [max(beside.count(t) - DISCOUNT, 0) for t in range(SIZE)]
        total = weight + DISCOUNT * len(set(beside))
        return [
            (count + total * p) / (sum(discounted) + total)
            for count, p in zip(discounted, prior, strict=True)
        ]

    pl, pr = smoothed(a, p0, left, None), smoothed(b, p0, None, right)
    q = [pl[t] * pr[t] / p0[t] for t in range(SIZE)]
    return smoothed(k, [value / sum(q) for value in q], left, right)


@pytest.mark.parametrize("left", [0, 2, 3, 4])
@pytest.mark.parametrize("right", [1, 2, 3, 5])
def test_probabilities_equal_the_stated_formula(left: int, right: int) -> None:
    weights = NeighbourWeights(left=2.0, right=0.5, both=1.5)
    model = NeighbourModel(NeighbourCounts(triples(), SIZE), weights)
    tokens = np.arange(SIZE)
    probabilities = np.exp(model.log_prob(np.full(SIZE, left), tokens, np.full(SIZE, right)))
    np.testing.assert_allclose(probabilities, by_formula(left, right, 2.0, 0.5, 1.5), rtol=1e-12)
    assert probabilities.sum() == pytest.approx(1)


def test_it_learns_what_unigrams_cannot() -> None:
    cycle = np.tile(np.arange(2, 22, dtype=np.uint16), 50)
    documents = [np.concatenate([[0], cycle[i:], [1]]).astype(np.uint16) for i in range(40)]
    model = neighbour_model(documents, 32)
    loss = -model.log_prob(np.array([5, 9]), np.array([6, 10]), np.array([7, 11])).mean()
    assert loss < 0.1 < math.log(20)


def test_entropy_of_known_distributions() -> None:
    counts = unigram_counts([np.array([1, 1, 2]), np.array([3, 3, 3, 3, 2])], 5)
    assert counts.tolist() == [0, 2, 2, 4, 0]
    assert unigram_entropy(counts) == pytest.approx(1.5 * math.log(2))
    assert unigram_entropy(np.array([0, 7])) == 0


def test_the_command_prints_both_models(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", str(corpus), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["neighbour_loss"] < result["unigram_loss"]
    assert main(["baseline", str(corpus)]) == 0
    assert "neighbour model" in capsys.readouterr().out
