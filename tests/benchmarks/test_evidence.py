"""Claims name points that their sweeps have, and are judged by the paired t test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.evidence.claims import CLAIMS, NEGLIGIBLE, Claim, Comparison
from benchmarks.evidence.page import page
from benchmarks.evidence.trials import ABLATIONS, AVERAGES, Trial
from benchmarks.evidence.verdicts import judged
from flexbert.sweeps.runs import resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from tests.outside import forgotten_afterwards

LESS = Comparison(point="one", reference="other", expected="lower")
SAME = Comparison(point="one", reference="other", expected="same")


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.sweep)
def test_a_claim_compares_points_of_its_sweep_by_what_that_measures(claim, tmp_path):
    sweep = read_sweep(ABLATIONS / f"{claim.sweep}.yaml")
    with forgotten_afterwards():
        labels = {run.point.label for run in resolve_runs(sweep, tmp_path)}
    if claim.sweep == AVERAGES:
        labels = {"last", "best three and last", "moving average"}
    for comparison in claim.comparisons:
        assert {comparison.point, comparison.reference} <= labels
        assert comparison.expected != "same" or comparison.measure in NEGLIGIBLE
    assert len(sweep.seeds) >= 3


def test_every_ablation_is_of_a_claim():
    of_claims = {name for claim in CLAIMS for name in (claim.sweep, *claim.before)}
    files = {file.stem for file in ABLATIONS.glob("*.yaml") if "sweep:" in file.read_text()}
    assert files == of_claims


@pytest.mark.parametrize("seed", range(20))
def test_a_difference_is_decided_where_the_paired_t_test_decides(seed):
    draw = np.random.default_rng(seed)
    one, other = draw.normal(4.0, 0.1, 5), draw.normal(4.1, 0.1, 5)
    found = judged(LESS, by_seed(*one), by_seed(*other))
    test = stats.ttest_rel(one, other)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    if test.pvalue >= 0.05:
        assert found.judgement == "not decided"
    else:
        assert found.judgement == ("agrees" if test.statistic < 0 else "disagrees")


def test_only_seeds_that_both_have_count():
    found = judged(LESS, {1: 1.0, 2: 1.1, 3: 9.0}, {1: 2.0, 2: 2.2, 4: -9.0})
    assert (found.seeds, found.estimate) == (2, pytest.approx(-1.05))
    with pytest.raises(ValueError, match="no interval of 1 seeds"):
        judged(LESS, {1: 1.0}, {1: 2.0})


@pytest.mark.parametrize(
    ("differences", "judgement"),
    [
        ((0.001, -0.001, 0.0), "agrees"),
        ((0.1, 0.101, 0.099), "disagrees"),
        ((-0.1, -0.101, -0.099), "disagrees"),
        ((0.05, -0.05, 0.0), "not decided"),
    ],
)
def test_the_same_is_what_lies_within_the_negligible(differences, judgement):
    assert judged(SAME, by_seed(*differences), by_seed(0.0, 0.0, 0.0)).judgement == judgement


def test_the_page_has_every_claim_whatever_came_of_it():
    claims = [
        Claim(title=title, says="It is so.", sweep=title.lower(), comparisons=(LESS,))
        for title in ("First", "Second")
    ]
    trials = [
        Trial(
            claim=claim,
            judged=(judged(LESS, by_seed(*values), by_seed(4.0, 4.0, 4.0)),),
            runs=6,
            tokens=600_000,
        )
        for claim, values in zip(claims, [(3.9, 3.91, 3.89), (4.1, 4.11, 4.09)], strict=True)
    ]
    text = page(trials, "one core", "What is tried.")
    assert "| [First](#first) | agrees |" in text
    assert "| [Second](#second) | disagrees |" in text
    assert "one less other | loss in nats | 3.9000, 4.0000 | -0.1000 | -0.1248 to -0.0752" in text
    assert "$ python -m benchmarks.evidence second" in text
