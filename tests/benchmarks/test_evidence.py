"""Claims name points that their sweeps have, and are judged by the paired t test."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from scipy import stats

from benchmarks.evidence import trials
from benchmarks.evidence.claims import CLAIMS, NEGLIGIBLE, SPEED, Claim, Comparison
from benchmarks.evidence.page import page, section
from benchmarks.evidence.trials import ABLATIONS, AVERAGES, Trial
from benchmarks.evidence.verdicts import judged
from flexbert.sweeps.runs import resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from tests.conftest import TINY_RECIPE
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
        assert comparison.measure in {*NEGLIGIBLE, SPEED}
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


@pytest.mark.parametrize(
    ("expected", "differences", "judgement"),
    [
        ("not lower", (0.5, 0.52, 0.48), "agrees"),
        ("not lower", (-0.001, 0.001, 0.0), "agrees"),
        ("not lower", (-0.1, -0.101, -0.099), "disagrees"),
        ("not higher", (-0.5, -0.52, -0.48), "agrees"),
        ("not higher", (0.1, 0.101, 0.099), "disagrees"),
        ("not higher", (0.05, -0.05, 0.0), "not decided"),
    ],
)
def test_what_is_no_worse_may_be_better(expected, differences, judgement):
    one_sided = Comparison(point="one", reference="other", expected=expected)
    assert judged(one_sided, by_seed(*differences), by_seed(0, 0, 0)).judgement == judgement


def test_a_speed_is_the_same_within_a_share_of_it():
    same = Comparison(point="one", reference="other", expected="same", measure=SPEED)
    fast = by_seed(10_000, 10_100, 9_900)
    for share, judgement in ((1.01, "agrees"), (1.2, "disagrees"), (0.8, "disagrees")):
        point = {seed: share * speed for seed, speed in fast.items()}
        assert judged(same, point, fast).judgement == judgement


def trial(title, *values, **changes):
    claim = Claim(title=title, says="It is so.", sweep=title.lower(), comparisons=(LESS,))
    found = judged(LESS, by_seed(*values), by_seed(4.0, 4.0, 4.0))
    return Trial(claim=claim, judged=(found,), runs=6, tokens=600_000, **changes)


def test_the_page_has_every_claim_whatever_came_of_it_with_every_runs_value():
    trials = [
        trial("First", 3.9, 3.91, 3.89, unigram_entropy=6.25),
        trial("Second", 4.1, 4.11, 4.09, conditions=("one: 2 times as many updates",)),
    ]
    text = page(trials, "one core", "Down from {entropy:.2f} to {loss:.2f}.")
    assert "Down from 6.25 to 4.00." in text
    assert "| [First](#first) | one \N{MINUS SIGN} other | loss | agrees |" in text
    assert "| [Second](#second) | one \N{MINUS SIGN} other | loss | disagrees |" in text
    assert "| one \N{MINUS SIGN} other | loss | -0.1000 | -0.1248 to -0.0752 | below 0 |" in text
    assert "| one | loss | 3.9000 | 3.9100 | 3.8900 |" in text
    assert "| other | loss | 4.0000 | 4.0000 | 4.0000 |" in text
    assert "- one: 2 times as many updates" in text
    assert "$ python -m benchmarks.evidence second" in text


def test_who_has_hardly_learned_is_named():
    near = [*section(trial("Near", 4.1, 4.2, 4.0, unigram_entropy=5.05))]
    assert any("Hardly trained: one (4.10)" in line and "5.05" in line for line in near)
    far = [*section(trial("Far", 4.1, 4.2, 4.0, unigram_entropy=6.5))]
    assert not any("Hardly trained" in line for line in far)


def test_a_run_that_another_sweep_has_trained_is_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def pretend(runs, base, folder, tell, *, at_once):
        for run in runs:
            trained.append(run.name)
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "config.yaml").write_text(yaml.safe_dump(run.recipe.resolved))
        return 0

    monkeypatch.setattr(trials, "ABLATIONS", tmp_path)
    monkeypatch.setattr(trials, "train_runs", pretend)
    monkeypatch.setattr(trials, "is_finished", lambda run: run.folder.exists())
    for name, points in {
        "one": {"base": {}, "wide": {"model.mlp.intermediate_size": 96}},
        "two": {"same": {}, "fast": {"optimizer.lr": 0.0123}},
    }.items():
        sweep = {"base": str(TINY_RECIPE), "list": points, "seeds": [1, 2]}
        sweep["overrides"] = {"data.path": "corpus"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))

    def runs_of(name, **options):
        return [
            str(run.folder.relative_to(tmp_path / "runs"))
            for run in trials._train(name, tmp_path / "runs", 1, lambda launched: None, **options)
        ]

    runs_of("one", shares=True)
    assert trained == ["base_seed-1", "base_seed-2", "wide_seed-1", "wide_seed-2"]
    fast = ["two/runs/fast_seed-1", "two/runs/fast_seed-2"]
    assert runs_of("two", shares=True) == [
        "one/runs/base_seed-1",
        "one/runs/base_seed-2",
        *fast,
    ]
    assert trained[4:] == ["fast_seed-1", "fast_seed-2"]
    # Where speeds are compared, all runs are trained side by side; then those are the sweep's.
    own = ["two/runs/same_seed-1", "two/runs/same_seed-2", *fast]
    assert runs_of("two", shares=False) == runs_of("two", shares=True) == own
