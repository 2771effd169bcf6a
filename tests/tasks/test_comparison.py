"""Comparisons of results made by hand, whose numbers are computed here in another way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from flexbert.errors import UserError
from flexbert.tasks.compare_models import compare_fits
from flexbert.tasks.comparison import CompareRequest, Comparison
from flexbert.tasks.differences import Difference
from flexbert.tasks.kept_fits import KeptFit, read_fits
from flexbert.tasks.predictions_file import FitPredictions, SplitPredictions, write_predictions
from flexbert.tasks.results import MAJORITY, TF_IDF, FitRecord, append_result
from tests.tasks.fits import fit

LOW, HIGH = {"optimizer.lr": 1e-5}, {"optimizer.lr": 3e-5}
LABELS = np.random.default_rng(0).integers(2, size=200)


def seeds(values: Sequence[float], metric: str = "accuracy", **changes: object) -> list[FitRecord]:
    """A fit a value, with seeds from 17 on."""
    return [fit(value, metric, seed=17 + n, **changes) for n, value in enumerate(values)]


def floor(
    value: float, model: str = TF_IDF, metric: str = "accuracy", **changes: object
) -> FitRecord:
    return fit(value, metric, model=model, mode="floor", seed=0, point={}, **changes)


def compared(records: Sequence[FitRecord], folder: Path = Path(), **request: object) -> Comparison:
    fits = [KeptFit(record=record, folder=folder) for record in records]
    return compare_fits(fits, CompareRequest(**request))  # type: ignore[arg-type]


def kept(folder: Path, record: FitRecord, right: float, seed: int) -> FitRecord:
    """The fit with predictions of which about that share is right, and the accuracy that is so."""
    is_right = np.random.default_rng(seed).random(len(LABELS)) < right
    predictions = np.where(is_right, LABELS, 1 - LABELS)
    split = SplitPredictions(predictions=predictions, labels=LABELS)
    name = f"predictions/{record.fit}.npz"
    found = FitPredictions(label_names=("no", "yes"), splits={"validation": split})
    write_predictions(folder / name, found)
    value = float(is_right.mean())
    metrics = {"accuracy": value}
    return dataclasses.replace(record, predictions=name, value=value, metrics=metrics)


def the_difference(found: Comparison) -> Difference:
    (each,) = found.differences
    return each.difference


def test_an_entry_is_the_best_point_by_its_mean_over_seeds() -> None:
    """The highest fit is at the other point."""
    records = seeds([0.70, 0.71, 0.72], point=LOW) + seeds([0.60, 0.60, 0.90], point=HIGH)
    entry = compared(records).entries["base"]["rte"]
    assert entry.point == "optimizer.lr 1e-05"
    assert entry.mean == pytest.approx(0.71)
    assert entry.spread == pytest.approx(scipy.stats.tstd([0.70, 0.71, 0.72]))
    assert (entry.seeds, entry.num_fits) == ((17, 18, 19), 6)
    best = compared(records, best=True).entries["base"]["rte"]
    assert (best.mean, best.spread, best.seeds) == (0.90, None, (19,))


def test_points_with_the_most_seeds_alone_compete() -> None:
    records = seeds([0.99], point=HIGH) + seeds([0.7, 0.8], point=LOW)
    assert compared(records).entries["base"]["rte"].mean == pytest.approx(0.75)


def test_fits_that_were_given_less_do_not_compete() -> None:
    records = seeds([0.99, 0.99], point=HIGH, budget=0.5) + seeds([0.7], point=LOW)
    assert compared(records).entries["base"]["rte"].values == (0.7,)
    shortened = compared(seeds([0.9], budget=0.5))
    assert shortened.entries["base"]["rte"].mean == 0.9
    assert "rte: base has no fit of full length, only of 50% of it" in shortened.notes


def test_less_is_better_of_an_error() -> None:
    records = seeds([0.5], "mse", point=LOW) + seeds([0.4], "mse", point=HIGH)
    records += seeds([0.45], "mse", point=HIGH, model="other")
    found = compared(records)
    assert found.entries["base"]["rte"].mean == 0.4
    assert found.means == {}


def test_a_fit_that_diverged_is_never_the_best() -> None:
    records = seeds([math.nan, 0.9], point=LOW) + seeds([0.3, 0.3], point=HIGH)
    assert compared(records).entries["base"]["rte"].mean == pytest.approx(0.3)
    alone = compared(seeds([math.nan, 0.9]))
    assert alone.entries["base"]["rte"].mean is None
    assert alone.entries["base"]["rte"].values == (None, 0.9)


def test_the_mean_over_tasks_is_of_rows_that_have_them_all() -> None:
    records = [
        *seeds([0.7, 0.8], task="rte"),
        *seeds([0.5, 0.7], "mcc", task="cola"),
        *seeds([0.9], task="rte", model="half"),
    ]
    found = compared(records)
    assert list(found.means) == ["base"]
    assert found.means["base"].mean == pytest.approx(0.675)
    # By seed: (0.7 + 0.5) / 2 and (0.8 + 0.7) / 2.
    assert found.means["base"].spread == pytest.approx(scipy.stats.tstd([0.6, 0.75]))


def test_three_seeds_are_compared_by_the_paired_t_test() -> None:
    one, other = [0.70, 0.75, 0.71], [0.66, 0.70, 0.68]
    found = the_difference(compared(seeds(one) + seeds(other, model="other")))
    expected = scipy.stats.ttest_rel(other, one).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.verdict, found.basis, found.count) == ("worse", "seeds", 3)
    assert found.needed is None


def test_nothing_is_called_better_whose_interval_holds_zero() -> None:
    records = seeds([0.70, 0.75, 0.71]) + seeds([0.71, 0.78, 0.70], model="other")
    found = the_difference(compared(records))
    assert found.estimate is not None
    assert found.estimate > 0
    assert found.verdict == "no difference seen"
    assert found.needed is not None
    assert found.needed > 3


@pytest.mark.parametrize(("metric", "verdict"), [("accuracy", "better"), ("mse", "worse")])
def test_better_is_more_of_a_score_and_less_of_an_error(metric: str, verdict: str) -> None:
    records = seeds([0.1, 0.2, 0.3], metric) + seeds([0.6, 0.7, 0.81], metric, model="other")
    assert the_difference(compared(records)).verdict == verdict


def test_only_seeds_that_both_have_are_paired() -> None:
    records = seeds([0.1, 0.2, 0.3, 0.4]) + [
        fit(value, seed=seed, model="other")
        for seed, value in ((18, 0.25), (19, 0.30), (20, 0.45), (21, 0.99))
    ]
    found = the_difference(compared(records))
    assert found.count == 3
    assert found.estimate == pytest.approx((0.05 + 0.0 + 0.05) / 3)


def test_one_seed_is_compared_by_example_as_scipy_does(tmp_path: Path) -> None:
    one = kept(tmp_path, fit(0.0), 0.9, seed=1)
    other = kept(tmp_path, fit(0.0, model="other"), 0.6, seed=2)
    found = the_difference(compared([one, other], tmp_path))
    hits = [
        np.random.default_rng(seed).random(len(LABELS)) < right
        for seed, right in ((1, 0.9), (2, 0.6))
    ]
    expected = scipy.stats.bootstrap(
        (hits[1].astype(float), hits[0].astype(float)),
        lambda x, y: x.mean() - y.mean(),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=3,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert (found.verdict, found.basis, found.count) == ("worse", "examples", 200)


def test_seeds_that_change_nothing_are_no_evidence(tmp_path: Path) -> None:
    """A probe on a model's own weights is the same with every seed."""
    records = []
    for model, right in (("base", 0.72), ("other", 0.68)):
        for seed in (1, 2, 3):
            record = fit(right, seed=seed, model=model)
            # One drawing for all seeds of a model.
            records.append(kept(tmp_path, record, right, seed=7 if model == "base" else 8))
    found = the_difference(compared(records, tmp_path))
    assert (found.basis, found.count) == ("examples", 200)
    alone = the_difference(compared([records[0], records[3]], tmp_path))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    without = the_difference(compared([*seeds([0.1] * 3), *seeds([0.9] * 3, model="other")]))
    assert without.verdict == "not known"


def test_best_fits_of_other_seeds_are_compared_by_example(tmp_path: Path) -> None:
    one = kept(tmp_path, fit(0.0, seed=1), 0.9, seed=1)
    other = kept(tmp_path, fit(0.0, seed=2, model="other"), 0.6, seed=2)
    assert the_difference(compared([one, other], tmp_path, best=True)).verdict == "worse"


def test_without_predictions_a_difference_of_one_seed_is_not_known() -> None:
    found = compared(seeds([0.1]) + seeds([0.9], model="other"))
    assert the_difference(found).verdict == "not known"
    assert the_difference(found).estimate == pytest.approx(0.8)
    note = "other: no interval for rte: no predictions of the same examples are kept"
    assert note in found.notes


def test_predictions_of_other_examples_are_not_paired(tmp_path: Path) -> None:
    one, other = (kept(tmp_path, fit(0.0, model=model), 0.9, seed=1) for model in ("base", "other"))
    others = SplitPredictions(predictions=LABELS[:100], labels=LABELS[:100])
    found = FitPredictions(label_names=("no", "yes"), splits={"validation": others})
    write_predictions(tmp_path / str(other.predictions), found)
    assert the_difference(compared([one, other], tmp_path)).verdict == "not known"


def test_who_does_not_beat_the_best_floor_is_named() -> None:
    records = [
        *seeds([0.60, 0.61, 0.62], model="low"),
        *seeds([0.62, 0.70, 0.66], model="near"),
        *seeds([0.80, 0.81, 0.82], model="high"),
        floor(0.64),
        floor(0.50, MAJORITY),
    ]
    found = compared(records)
    assert [row.label for row in found.rows] == ["low", "near", "high", TF_IDF, MAJORITY]
    assert found.below_floor == (
        f"rte: low does not beat {TF_IDF} (accuracy 61.0 against 64.0)",
        f"rte: near is not shown to beat {TF_IDF} (accuracy 66.0 against 64.0; over 3 seeds the "
        "interval holds zero)",
    )
    beaten = compared([*records, floor(0.81, MAJORITY)])
    assert any(
        line.startswith(f"rte: high does not beat {MAJORITY}") for line in beaten.below_floor
    )


def test_two_models_of_one_name_are_two_rows() -> None:
    records = seeds([0.1], model_fingerprint="aaaaaaaaaa") + seeds([0.2], model_fingerprint="bb")
    records += seeds([0.3], mode="frozen")
    labels = [row.label for row in compared(records).rows]
    assert labels == ["base aaaaaaaa", "base bb", "base (frozen)"]


def test_one_model_in_results_with_other_settings_is_two_rows(tmp_path: Path) -> None:
    def found(*pooling: str, grid: bool = False) -> list[str]:
        fits = []
        for name, own in zip(("one", "two"), pooling, strict=True):
            settings = {"kind": {"name": "classification"}, "metrics": ["accuracy"]}
            settings |= {"pooling": own, "seeds": [1, 2]}
            point = {"pooling": own} if grid else {}
            for record in seeds([0.5, 0.6], settings=settings, point=point, start=name):
                fits.append(KeptFit(record=record, folder=tmp_path / name))
        return [row.label for row in compare_fits(fits, CompareRequest()).rows]

    assert found("cls", "mean") == ["base (one)", "base (two)"]
    assert found("cls", "cls") == ["base"], "two machines have shared a search"
    assert found("cls", "mean", grid=True) == ["base"], "a search has varied it"


def test_a_model_that_is_named_as_a_floor_or_as_another_row_has_a_row_of_its_own() -> None:
    records = [*seeds([0.9], model=MAJORITY), floor(0.2, MAJORITY)]
    records += [*seeds([0.3], mode="frozen"), *seeds([0.4], model="base (frozen)")]
    found = compared(records)
    values = {label: row["rte"].mean for label, row in found.entries.items()}
    assert values == {
        "majority": 0.9,
        "majority (2)": 0.2,
        "base (frozen)": 0.3,
        "base (frozen) (2)": 0.4,
    }


def test_floors_of_several_models_are_one_row() -> None:
    records = [*seeds([0.1]), floor(0.2, model_fingerprint="a"), floor(0.2, model_fingerprint="b")]
    assert [row.label for row in compared(records).rows] == ["base", TF_IDF]


def test_tasks_of_one_name_in_two_suites_are_two_columns() -> None:
    found = compared([*seeds([0.1]), *seeds([0.2], suite="own")])
    assert [column.label for column in found.columns] == ["glue/rte", "own/rte"]


def test_a_search_with_fewer_fits_is_marked() -> None:
    records = seeds([0.1, 0.2], point=LOW) + seeds([0.1, 0.2], point=HIGH)
    found = compared(records + seeds([0.3], point=HIGH, model="other"))
    assert not found.entries["base"]["rte"].is_behind
    assert found.entries["other"]["rte"].is_behind
    assert any(note.startswith("* fewer fits") for note in found.notes)


def test_test_splits_are_shown_at_the_point_that_validation_chose() -> None:
    records = seeds([0.7], point=LOW, tests={"a": {"accuracy": 0.1}, "b": {"accuracy": 0.2}})
    records += seeds([0.6], point=HIGH, tests={"a": {"accuracy": 0.9}, "b": {"accuracy": 0.9}})
    row = compared(records, tests=True).entries["base"]
    assert {name: entry.mean for name, entry in row.items()} == {"rte:a": 0.1, "rte:b": 0.2}
    with pytest.raises(UserError, match="--tests: no fit has a test split"):
        compared(seeds([0.5]), tests=True)


def test_another_metric_is_computed_from_what_was_predicted(tmp_path: Path) -> None:
    records = [
        kept(tmp_path, fit(0.0, seed=seed, point=point), 0.8, seed)
        for seed, point in ((1, LOW), (2, LOW), (1, HIGH))
    ]
    for record in records:
        append_result(tmp_path, record)
    found = compare_fits(read_fits([tmp_path]), CompareRequest(metrics={"rte": "mcc"}))
    entry = found.entries["base"]["rte"]
    expected = []
    for seed in (1, 2):
        is_right = np.random.default_rng(seed).random(len(LABELS)) < 0.8
        predictions = np.where(is_right, LABELS, 1 - LABELS)
        expected.append(sklearn.metrics.matthews_corrcoef(LABELS, predictions))
    assert entry.values == pytest.approx(expected)
    assert any("shown and chosen by mcc" in note for note in found.notes)


def test_a_metric_that_cannot_be_had_is_one_line() -> None:
    records = seeds([0.5])
    for metrics, message in (
        ({"rta": "mcc"}, "--metric rta: no such task; did you mean 'rte'"),
        ({"rte": "mcx"}, "metric 'mcx' is unknown; did you mean 'mcc'"),
        ({"rte": "mcc"}, "no predictions are kept"),
    ):
        with pytest.raises(UserError, match=message):
            compared(records, metrics=metrics)


def test_a_fine_tuned_model_is_the_reference_before_a_probe() -> None:
    probe = seeds([0.4, 0.5, 0.6], mode="frozen", point={})
    found = compared([floor(0.2), *probe, *seeds([0.6, 0.7, 0.8], model="tuned")])
    assert found.reference == "tuned"
    assert compared([floor(0.2), *probe]).reference == "base (frozen)"


def test_a_reference_may_be_any_row_and_an_unknown_one_is_one_line() -> None:
    records = [*seeds([0.1, 0.2, 0.3]), *seeds([0.6, 0.7, 0.8], model="other"), floor(0.5)]
    found = compared(records, reference="other")
    assert [each.row for each in found.differences] == ["base"]
    # A floor has one value, which goes with every seed.
    by_floor = compared(records, reference=TF_IDF)
    expected = scipy.stats.ttest_1samp([0.1, 0.2, 0.3], 0.5).confidence_interval()
    assert by_floor.differences[0].difference.low == pytest.approx(expected.low - 0.5)
    with pytest.raises(UserError, match="--reference othr: no such row; did you mean 'other'"):
        compared(records, reference="othr")


def test_fits_that_read_other_data_are_named() -> None:
    from flexbert.tasks.results import FitData

    changed = {"train": FitData(source="hf:glue", fingerprint="new")}
    found = compared(seeds([0.5]) + seeds([0.6], model="other", data=changed))
    assert any("rte: fits read different data (train)" in note for note in found.notes)


def test_a_fit_in_two_results_counts_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for record in seeds([0.5, 0.6]):
            append_result(tmp_path / name, record)
    assert len(read_fits([tmp_path / "one", tmp_path / "two" / "results.jsonl"])) == 2
