"""What a table says of its conditions, before and after its runs are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.files.line_file import json_line
from flexbert.manifest_file import CorpusRecord, Launch, Manifest, StageRecord
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.sweeps.condition_notes import held_conditions, planned_conditions
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from tests.conftest import REPOSITORY, TINY_RECIPE

EQUAL = "equal (counts within 1 percent): "
PLANNED = "tokens, updates, FLOPs in all, data order, training masks, evaluation, initial weights, "
PLANNED += "parameters, FLOPs a token, precision"
RECORDED = "data order, training masks, evaluation, initial weights, parameters, FLOPs a token, "
RECORDED += "precision, tokens, updates, FLOPs in all, processes, device, software"
LAUNCH = Launch(
    command=("main.py",),
    time="2025-01-01T00:00:00Z",
    after_step=0,
    processes=1,
    device="cpu",
    platform="any",
    python="3.11",
    flexbert="0.1.0",
    packages={"torch": "2.11.0"},
)


def swept(
    folder: Path, points: Sequence[dict[str, Any]] | Mapping[str, dict[str, Any]]
) -> tuple[Sweep, list[SweepRun]]:
    path = folder / "ablation.yaml"
    overrides = {"data.path": "/some/corpus"}
    listed = dict(points) if isinstance(points, Mapping) else list(points)
    tree = {"base": str(TINY_RECIPE), "overrides": overrides, "list": listed, "seeds": [1, 2]}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    sweep = read_sweep(path)
    return sweep, resolve_runs(sweep, folder / "sweep")


def recorded(
    run: SweepRun,
    *,
    tokens: int = 1000,
    masked: int | None = 77,
    launch: Launch = LAUNCH,
    skipped_rows: int = 0,
    validation: str = "v",
) -> None:
    """Write what a finished run has in its folder."""
    run.folder.mkdir(parents=True)
    record = {"event": "eval", "stage": "only", "step": 12, "tokens": tokens}
    record |= {"stage_tokens": tokens, "eval_loss": 3.0}
    record |= {} if masked is None else {"eval_masked_tokens": masked}
    (run.folder / "metrics.jsonl").write_bytes(json_line(record))
    corpus = CorpusRecord(
        path="c", tokenizer_sha256="t", splits={"train": "x", "validation": validation}
    )
    Manifest(
        run_name=run.name,
        parameters=1,
        stages={"only": StageRecord(corpora={"corpus": corpus})},
        launches=(launch,),
    ).write(run.folder)
    segment = RunSegment(
        number=0,
        stage="only",
        generation=0,
        first_step=0,
        first_update=0,
        first_tokens=0,
        first_row=0,
        recipe={},
        order={"seed": run.seed},
        skipped_rows=skipped_rows,
    )
    OrderLog(run.folder / "orders").resume(0, segment)


def test_a_plan_says_what_differs_by_point_and_what_is_equal_in_all(tmp_path: Path) -> None:
    points = [{}, {"model.mlp.activation": "silu"}]
    assert planned_conditions(*swept(tmp_path, points)) == [EQUAL + PLANNED]
    points += [{"batch.size": 12}, {"precision": "amp_bf16"}]
    *lines, equal = planned_conditions(*swept(tmp_path, points))
    assert lines == [
        "size=12: 2 times as many tokens",
        "precision=amp_bf16: precision amp_bf16, not fp32",
    ]
    assert equal == EQUAL + PLANNED.replace("tokens, ", "", 1).replace(
        "FLOPs in all, ", ""
    ).replace(", precision", "")


def test_recipes_of_other_stages_are_compared_stage_by_stage(tmp_path: Path) -> None:
    path = REPOSITORY / "yamls" / "ablations" / "schedules.yaml"
    sweep = read_sweep(path, ["data.path=/some/corpus"])
    *lines, equal = planned_conditions(sweep, resolve_runs(sweep, tmp_path / "sweep"))
    # A second stage has an order of its own, and nothing else differs.
    assert lines == ["trapezoid_continued, cosine_continued: another data order (stages.further)"]
    assert equal == EQUAL + PLANNED.replace("data order, training masks, ", "")


def test_what_differs_in_one_stage_is_said_with_its_name(tmp_path: Path) -> None:
    points = {
        "one": {"stages": {"first": {"duration": "24ba"}}},
        "same": {"stages": {"first": {"duration": "12ba"}, "second": {"duration": "12ba"}}},
        "other": {
            "stages": {
                "first": {"duration": "12ba", "data.packing_window": 64},
                "second": {"duration": "12ba", "precision": "amp_bf16"},
            }
        },
    }
    base, path = tmp_path / "base.yaml", tmp_path / "ablation.yaml"
    # Each stage has its own.
    own = {"duration": None, "evaluation.rows": None}
    base.write_text(yaml.safe_dump({"include": [str(TINY_RECIPE)], **own}))
    tree = {"base": str(base), "overrides": {"data.path": "/some/corpus"}, "list": points}
    path.write_text(yaml.safe_dump(tree))
    sweep = read_sweep(path)
    *lines, _ = planned_conditions(sweep, resolve_runs(sweep, tmp_path / "sweep"))
    assert lines == [
        "other: another data order (stages.first.data.packing_window, stages.second); "
        "stages.second.precision amp_bf16, not fp32",
        "same: another data order (stages.second)",
    ]


def test_finished_runs_that_recorded_the_same_are_said_to_be_equal(tmp_path: Path) -> None:
    sweep, runs = swept(tmp_path, [{}, {"model.mlp.activation": "silu"}])
    assert held_conditions(sweep, runs, []) == [EQUAL + PLANNED]
    for run in runs:
        recorded(run)
    assert held_conditions(sweep, runs, runs) == [EQUAL + RECORDED]


OTHER: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "tokens": (
        {"tokens": 1500},
        "50 percent more tokens",
        ("tokens", "FLOPs in all"),
    ),
    "masked tokens": (
        {"masked": 78},
        "evaluated over 78 masked tokens, not 77",
        ("evaluation",),
    ),
    "validation": ({"validation": "w"}, "evaluated on another corpus", ("evaluation",)),
    "rows": ({"skipped_rows": 5}, "other rows were read", ("data order",)),
    "processes": (
        {"launch": replace(LAUNCH, processes=2)},
        "ran on 2 processes, not 1",
        ("processes",),
    ),
    "device": ({"launch": replace(LAUNCH, device="cuda")}, "ran on cuda, not cpu", ("device",)),
    "packages": (
        {"launch": replace(LAUNCH, packages={"torch": "2.12.0"})},
        "other versions of torch",
        ("software",),
    ),
}


def test_a_run_that_recorded_no_threads_of_its_cpu_is_compared_by_the_rest(tmp_path: Path) -> None:
    sweep, runs = swept(tmp_path, [{}, {"model.mlp.activation": "silu"}])
    for run in runs:
        threads = "cpu" if run.point == sweep.reference else "cpu, 1 thread"
        recorded(run, launch=replace(LAUNCH, device=threads))
    assert held_conditions(sweep, runs, runs) == [EQUAL + RECORDED]


def test_points_that_differ_in_the_same_way_share_a_line(tmp_path: Path) -> None:
    amp, twice = {"precision": "amp_bf16"}, {"batch.size": 12}
    wide = {"model.mlp.activation": "silu"}
    *lines, _ = planned_conditions(*swept(tmp_path, [{}, amp, {**amp, **wide}, twice]))
    assert lines == [
        "precision=amp_bf16 (2 points): precision amp_bf16, not fp32",
        "size=12: 2 times as many tokens",
    ]
    points = {"plain": {}, "half": amp, "half_silu": {**amp, **wide}}
    *lines, _ = planned_conditions(*swept(tmp_path, points))
    assert lines == ["half, half_silu: precision amp_bf16, not fp32"]


@pytest.mark.parametrize("some", [True, False], ids=["one seed", "all seeds"])
@pytest.mark.parametrize("name", OTHER)
def test_what_a_run_recorded_otherwise_is_said_with_its_seeds(
    name: str, some: bool, tmp_path: Path
) -> None:
    changed, problem, conditions = OTHER[name]
    sweep, runs = swept(tmp_path, [{}, {"model.mlp.activation": "silu"}])
    for run in runs:
        is_other = run.point != sweep.reference and (run.seed == 2 or not some)
        recorded(run, **(changed if is_other else {}))
    line, equal = held_conditions(sweep, runs, runs)
    assert line == f"activation=silu: {problem}" + (" (seed 2)" if some else "")
    held = [name for name in RECORDED.split(", ") if name not in conditions]
    assert equal == EQUAL + ", ".join(held)


def test_runs_from_before_masked_tokens_were_counted_are_compared_by_the_rest(
    tmp_path: Path,
) -> None:
    sweep, runs = swept(tmp_path, [{}, {"model.mlp.activation": "silu"}])
    for run in runs:
        recorded(run, masked=None if run.seed == 1 else 77)
    assert held_conditions(sweep, runs, runs) == [EQUAL + RECORDED]


def test_an_order_that_was_meant_to_differ_is_said_once(tmp_path: Path) -> None:
    sweep, runs = swept(tmp_path, [{}, {"data.packing_window": 64}])
    for run in runs:
        recorded(run, skipped_rows=0 if run.point == sweep.reference else 3)
    (line, _) = held_conditions(sweep, runs, runs)
    assert line.count("order") == 1
    assert "other rows" not in line
