"""``yamls/suites/glue.yaml``: the search of the ModernBERT paper, and a run of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from flexbert.commands import main
from flexbert.tasks.predictions_file import read_predictions
from flexbert.tasks.results import FitRecord, predictions_path, read_results
from flexbert.tasks.suite import load_suite
from tests.conftest import REPOSITORY
from tests.tasks.cases import rows_of, write_tiny
from tests.tasks.test_task_rows import write

GLUE = REPOSITORY / "yamls" / "suites" / "glue.yaml"
# Appendix of arXiv 2412.13663.
LRS = [1e-5, 3e-5, 5e-5, 8e-5]
WEIGHT_DECAYS = [1e-6, 5e-6, 8e-6, 1e-5]
FEW, MORE = [1, 2, 3], [2, 5, 10]
EPOCHS = {
    **dict.fromkeys(("sst2", "mnli", "rte"), FEW),
    **dict.fromkeys(("qnli", "qqp", "cola", "mrpc", "stsb"), MORE),
}
# Columns of the texts, the number of classes, and a format of each task's files.
COLUMNS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "cola": (("sentence",), 2, "jsonl"),
    "sst2": (("sentence",), 2, "csv"),
    "mnli": (("premise", "hypothesis"), 3, "parquet"),
    "mrpc": (("sentence1", "sentence2"), 2, "tsv"),
    "stsb": (("sentence1", "sentence2"), 0, "jsonl"),
    "qqp": (("question1", "question2"), 2, "csv.gz"),
    "qnli": (("question", "sentence"), 2, "parquet"),
    "rte": (("sentence1", "sentence2"), 2, "jsonl.gz"),
}


def test_the_suite_is_the_papers_search() -> None:
    suite = load_suite(GLUE)
    assert set(suite.tasks) == set(EPOCHS)
    count = 0
    for name, task in suite.tasks.items():
        expected = set(itertools.product(LRS, WEIGHT_DECAYS, EPOCHS[name]))
        points = [point.settings for point in task.points]
        found = {(p.optimizer.lr, p.optimizer.weight_decay, p.epochs) for p in points}
        assert found == expected
        count += len(points) * len(task.settings.seeds)
        for settings in points:
            assert settings.from_task == ("mnli" if name in ("rte", "mrpc", "stsb") else None)
            assert settings.batch_size == 64
            assert settings.early_stopping is not None
    assert count == 384
    order = list(suite.tasks)
    assert all(order.index("mnli") < order.index(name) for name in ("rte", "mrpc", "stsb"))


def test_some_tasks_bring_what_they_start_from() -> None:
    assert list(load_suite(GLUE, tasks=["rte", "cola"]).tasks) == ["cola", "mnli", "rte"]


def test_an_override_of_the_defaults_reaches_the_tasks_that_do_not_say_it_themselves() -> None:
    suite = load_suite(GLUE, ["defaults.grid.epochs=[7]", "tasks.cola.grid.optimizer.lr=null"])
    epochs = {name: {p.settings.epochs for p in task.points} for name, task in suite.tasks.items()}
    assert epochs["qnli"] == {7}
    assert epochs["rte"] == set(FEW)
    assert {p.settings.optimizer.lr for p in suite.tasks["cola"].points} == {5e-5}


def glue_rows(name: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with GLUE's columns: classes by their numbers, an index that nobody reads."""
    columns, classes, _ = COLUMNS[name]
    rows = []
    for index, made in enumerate(rows_of("regression", count, seed)):
        texts = dict(zip(columns, (made["text"], made["other"]), strict=False))
        label = made["label"] if classes == 0 else int(made["label"]) % classes
        rows.append({**texts, "label": label, "idx": index})
    return rows


def expected_metrics(record: FitRecord, folder: Path, split: str) -> dict[str, float]:
    found = read_predictions(predictions_path(folder, record.fit)).splits[split]
    given, right = found.predictions, found.labels
    if record.task == "stsb":
        return {
            "pearson": scipy.stats.pearsonr(given, right).statistic,
            "spearman": scipy.stats.spearmanr(given, right).statistic,
        }
    metrics = {"accuracy": sklearn.metrics.accuracy_score(right, given)}
    if record.task == "cola":
        metrics["mcc"] = sklearn.metrics.matthews_corrcoef(right, given)
    if record.task in ("mrpc", "qqp"):
        metrics["f1"] = sklearn.metrics.f1_score(right, given)
    return metrics


@pytest.mark.slow
def test_all_tasks_run_end_to_end_and_print_the_papers_row(
    tmp_path: Path, pair_tokenizer: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        *("defaults.max_length=48", "defaults.precision=fp32", "defaults.batch_size=8"),
        *("defaults.grid.optimizer.lr=[1e-3,3e-3]", "defaults.grid.optimizer.weight_decay=[1e-5]"),
        *("defaults.grid.epochs=[2]", *(f"tasks.{n}.grid.epochs=[1]" for n in ("sst2", "mnli"))),
        "tasks.rte.grid.epochs=[3]",
    ]
    for name, (_, _, suffix) in COLUMNS.items():
        splits = {"train": 40, "validation": 24}
        if name == "mnli":
            splits["mismatched"] = 16
        for seed, (split, count) in enumerate(splits.items()):
            path = write(tmp_path / f"{name}-{split}.{suffix}", glue_rows(name, count, seed))
            key = "tests.mismatched" if split == "mismatched" else split
            overrides.append(f"tasks.{name}.data.{key}={path}")
    model = write_tiny(tmp_path / "tiny.pt", pair_tokenizer)
    out = tmp_path / "out"
    command = ["evaluate", str(GLUE), str(model), "--out", str(out), "--device", "cpu", *overrides]
    assert main([*command, "--plan"]) == 0
    assert "16 fits" in capsys.readouterr().out
    assert main(command) == 0
    printed = capsys.readouterr().out

    records = [record for record in read_results(out) if record.mode == "fine_tune"]
    assert {record.task: sum(r.task == record.task for r in records) for record in records} == (
        dict.fromkeys(COLUMNS, 2)
    )
    for record in records:
        expected = expected_metrics(record, out, "validation")
        assert record.metrics == pytest.approx(expected, abs=1e-9)
        for split, metrics in record.tests.items():
            assert metrics == pytest.approx(expected_metrics(record, out, split), abs=1e-9)
    # The table is cut in two where it is wider than a page.
    cells = [line.split()[1:] for line in printed.splitlines() if line.startswith("tiny  ")]
    values = [value for row in cells if row and row[0] not in COLUMNS for value in row]
    best = [max(r.value for r in records if r.task == name) for name in load_suite(GLUE).tasks]
    assert values == [f"{100 * value:.1f}" for value in (*best, np.mean(best))]
