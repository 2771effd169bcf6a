"""Losses over other tokens get no verdict, whatever the table is made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.config.stage_overrides import ONLY_STAGE
from flexbert.files.line_file import json_line
from flexbert.manifest_file import CorpusRecord, Launch, Manifest, StageRecord
from flexbert.sweeps import sweep_report
from flexbert.sweeps.run_groups import group_runs
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from flexbert.sweeps.sweep_report import groups_table, report_sweep
from flexbert.sweeps.sweep_table import SweepTable
from flexbert.sweeps.sweep_text import sweep_table_text
from tests.conftest import TINY_RECIPE

OWN, OTHERS = ("eval_loss", "eval_accuracy"), ("tokens_per_second", "mnli.accuracy")
LAUNCH = Launch(
    command=("main.py",),
    time="2026-01-01T00:00:00+00:00",
    after_step=0,
    processes=1,
    device="cpu",
    platform="Linux",
    python="3.11",
    flexbert="0.1.0",
    packages={},
)


def swept(
    folder: Path, values: dict[str, Any], overrides: dict[str, Any]
) -> tuple[Sweep, list[SweepRun]]:
    path = folder / "ablation.yaml"
    points = [{}, {"model.mlp.activation": "silu", **values}]
    tree = {"base": str(TINY_RECIPE), "list": points, "seeds": [1, 2, 3], "measure": "eval_loss"}
    path.write_text(yaml.safe_dump({**tree, "overrides": {"data.path": "/a", **overrides}}))
    sweep = read_sweep(path)
    return sweep, resolve_runs(sweep, folder / "sweep")


def record(
    run: SweepRun,
    *,
    is_other: bool,
    tokenizer: str = "t",
    validation: str = "v",
    masked: int = 77,
    entropy: float | None = None,
) -> None:
    """Write what a run leaves; the other point is better in all by more than seeds do."""
    run.folder.mkdir(parents=True)
    good = 0.5 * is_other + 0.01 * run.seed + 0.001 * is_other * run.seed
    header = {"stage": ONLY_STAGE, "step": 12, "tokens": 1000, "stage_tokens": 1000}
    train = {**header, "event": "train", "tokens_per_second": 100 + good}
    own = {"eval_loss": 3 - good, "eval_accuracy": good, "eval_masked_tokens": masked}
    lines = [train, {**header, "event": "eval", **own}]
    (run.folder / "metrics.jsonl").write_bytes(b"".join(map(json_line, lines)))
    task = {
        **{"event": "task", "stage": ONLY_STAGE, "step": 12, "tokens": 1000, "checkpoint": "a.pt"},
        **{"suite": "glue", "task": "mnli", "mode": "frozen", "fingerprint": "0", "seeds": [1]},
        **{"metrics": {"accuracy": good}, "seconds": 1.0},
    }
    (run.folder / "tasks.jsonl").write_bytes(json_line(task))
    splits = {"train": "x", "validation": validation}
    corpus = CorpusRecord(path="c", tokenizer_sha256=tokenizer, splits=splits)
    Manifest(
        run_name=run.name,
        parameters=1,
        stages={ONLY_STAGE: StageRecord(corpora={"corpus": corpus})},
        unigram_entropy=entropy,
        launches=(LAUNCH,),
    ).write(run.folder)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(run.recipe.resolved))


def compared(runs: Sequence[SweepRun]) -> SweepTable:
    return groups_table(group_runs([run.folder for run in runs], [*OWN, *OTHERS]))[0]


def verdicts(table: SweepTable) -> dict[str, str | None]:
    (other,) = (label for label in table.cells if label != table.reference)
    return {measure: cell.verdict for measure, cell in table.cells[other].items()}


OTHERWISE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "tokenizer": ({}, {"tokenizer": "u", "validation": "w"}, "with another tokenizer"),
    "corpus": ({}, {"validation": "w"}, "on another corpus"),
    "count": ({}, {"masked": 78}, "over 78 masked tokens, not 77"),
    "masks": ({"evaluation.mask_rate": 0.3}, {}, "with other masks (evaluation.mask_rate)"),
    "texts": ({"data.row_length": 192}, {}, "on other texts (data.row_length)"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_loss_over_other_tokens_has_no_verdict_and_other_measures_have(
    name: str, tmp_path: Path
) -> None:
    values, recorded, why = OTHERWISE[name]
    sweep, runs = swept(tmp_path, values, {})
    for run in runs:
        is_other = run.point != sweep.reference
        record(run, is_other=is_other, **(recorded if is_other else {}))
    table = compared(runs)
    assert verdicts(table) == {
        **dict.fromkeys(OWN, "does not compare"),
        **dict.fromkeys(OTHERS, "better"),
    }
    said = " ".join(sweep_table_text(table).split())
    assert f"eval_loss, eval_accuracy do not compare with those of {table.reference}" in said
    assert f"it is evaluated {why}" in said
    # It is the better number, and stands last all the same.
    assert table.best_first[0] == table.reference


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_table_of_a_sweep_says_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, recorded, why = OTHERWISE[name]
    sweep, runs = swept(tmp_path, values, {})
    monkeypatch.setattr(sweep_report, "is_finished", lambda run: True)
    monkeypatch.setattr(sweep_report, "write_table", lambda *_: None)
    for run in runs:
        is_other = run.point != sweep.reference
        record(run, is_other=is_other, **(recorded if is_other else {}))
    table = report_sweep(sweep, runs, tmp_path / "sweep")
    assert verdicts(table) == {"eval_loss": "does not compare"}
    assert any(note.endswith(f"it is evaluated {why}") for note in table.notes)


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "activation": ({}, {}),
    # All of a split is the same in any rows.
    "rows": ({"data.row_length": 192}, {"evaluation.rows": None}),
    "training masks": ({"data.mask_rate": 0.15}, {}),
}


@pytest.mark.parametrize("name", SAME)
def test_a_loss_over_the_same_tokens_has_a_verdict(name: str, tmp_path: Path) -> None:
    sweep, runs = swept(tmp_path, *SAME[name])
    for run in runs:
        record(run, is_other=run.point != sweep.reference)
    table = compared(runs)
    assert set(verdicts(table).values()) == {"better"}
    assert not any("compare" in note for note in table.notes)


def test_rows_that_hold_the_same_chunks_compare_where_the_corpus_is_there(
    tmp_path: Path, corpus: Path
) -> None:
    # No document is that short, so none is merged.
    sweep, runs = swept(tmp_path, {"data.merge_below": 1}, {"data.path": str(corpus)})
    for run in runs:
        record(run, is_other=run.point != sweep.reference)
    assert set(verdicts(compared(runs)).values()) == {"better"}


@pytest.mark.parametrize(("entropy", "is_noted"), [(2.97, True), (2.99, False), (None, False)])
def test_a_loss_that_token_frequencies_alone_have_is_noted(
    entropy: float | None, is_noted: bool, tmp_path: Path
) -> None:
    # The reference's mean over seeds is 2.98, the other point's about 2.48.
    sweep, runs = swept(tmp_path, {}, {})
    for run in runs:
        record(run, is_other=run.point != sweep.reference, entropy=entropy)
    table = compared(runs)
    notes = [note for note in table.notes if "entropy" in note]
    assert len(notes) == is_noted
    if is_noted:
        assert notes == [
            f"{table.reference}: its loss is not below the entropy of single tokens (2.97): it has "
            "not learned from context"
        ]
