"""``flexbert watch``: which checkpoints of a run are tried, whatever becomes of them meanwhile."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.internal.datastore import DataStore

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.commands import main
from flexbert.config.decode import decode
from flexbert.config.training import SuiteEvaluationConfig
from flexbert.errors import ConfigError, UserError
from flexbert.recipes import load_recipe
from flexbert.task_metrics_file import read_task_metrics
from flexbert.tasks.checkpoint_tasks import CheckpointTasks
from flexbert.tasks.watching import due_checkpoints, run_is_finished, watch_run
from tests.conftest import TINY_RECIPE
from tests.publish.written_runs import STEPS, write_run
from tests.tasks.cases import task_node, write_suite

ENDS = {"pretrain": 9, "decay": 15}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    return write_suite(folder, {"toy": task_node(folder, "classification")})


@pytest.fixture
def run(tmp_path: Path, pair_tokenizer: Mapping[str, str]) -> Path:
    """A finished run, whose stages end with the checkpoints of updates 9 and 15."""
    folder = write_run(
        tmp_path / "tiny", pair_tokenizer, recipe=["logging={tensorboard: true}"]
    ).folder
    for stage, step in ENDS.items():
        (folder / "checkpoints" / f"{stage}.pt").hardlink_to(checkpoint(folder, step))
    recipe = read_checkpoint(checkpoint(folder, 15)).training
    assert recipe is not None
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(recipe.run)))
    return folder


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / checkpoint_name(step)


def tasks_of(run: Path, suite: Path, **more: object) -> CheckpointTasks:
    config = decode(SuiteEvaluationConfig, {"file": str(suite), **more})
    return CheckpointTasks(run, config, torch.device("cpu"))


def watch(tasks: CheckpointTasks) -> list[int]:
    """The steps that it tells of, in order."""
    told: list[int] = []
    watch_run(tasks, follow=True, tell=lambda tried, measured: told.append(tried.step))
    return told


def test_checkpoints_are_those_that_were_due_and_know_which_end_a_stage(run: Path) -> None:
    found = {each.step: each for each in due_checkpoints(run)}
    assert tuple(found) == STEPS
    assert [step for step, each in found.items() if each.ends_stage] == [*ENDS.values()]
    assert {step: each.stage for step, each in found.items()}[12] == "decay"
    assert run_is_finished(run)
    (run / "checkpoints" / "decay.pt").unlink()
    assert not run_is_finished(run)


def test_each_is_tried_once_oldest_first(run: Path, suite: Path) -> None:
    tasks = tasks_of(run, suite)
    assert watch(tasks) == [*STEPS]
    assert watch(tasks) == []
    assert [each.step for each in read_task_metrics(run)] == [*STEPS]


def test_an_interval_leaves_some_out_and_never_a_stages_end(run: Path, suite: Path) -> None:
    assert watch(tasks_of(run, suite, interval="5ba")) == [6, 9, 15]
    # Of tokens, a million an update.
    assert watch(tasks_of(run, suite, interval="7e6tok", mode="fine_tune")) == [9, 15]


def test_a_checkpoint_that_is_deleted_meanwhile_is_passed_over(
    run: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tasks_of(run, suite)

    def delete() -> None:
        checkpoint(run, 6).unlink(missing_ok=True)

    # In the first fit of the first one; what is found after that does not see it.
    tasks._maker.beat = delete
    assert watch(tasks) == [3, 9, 12, 15]
    tasks = tasks_of(run, suite, mode="fine_tune")

    def delete_own() -> None:
        checkpoint(run, 3).unlink(missing_ok=True)

    tasks._maker.beat = delete_own
    assert watch(tasks) == [9, 12, 15]
    assert "step-00000003.pt was deleted meanwhile" in capsys.readouterr().err


def test_what_has_another_ones_name_by_now_is_not_recorded_under_it(
    run: Path, suite: Path, pair_tokenizer: Mapping[str, str], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", pair_tokenizer, steps=[12]).folder
    tasks = tasks_of(run, suite)

    def go_back() -> None:
        # As a training does that has gone back, and has come here again.
        if checkpoint(other, 12).exists():
            checkpoint(other, 12).rename(checkpoint(run, 3))

    tasks._maker.beat = go_back
    assert watch(tasks)[0] == 6
    assert 3 not in {each.step for each in read_task_metrics(run)}
    # It is tried once somebody looks again.
    assert watch(tasks) == []


def test_no_run_is_one_line_and_a_run_that_begins_is_waited_for(
    run: Path, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty: no checkpoints there; give the folder of a run"):
        watch(tasks_of(empty, suite))
    (empty / "config.yaml").write_text("{}")
    monkeypatch.setattr(
        "flexbert.tasks.watching.time.sleep",
        lambda seconds: (run / "checkpoints").rename(empty / "checkpoints"),
    )
    assert watch(tasks_of(empty, suite)) == [*STEPS]


def test_a_run_of_one_stage_of_its_recipe_is_finished_with_it(
    tmp_path: Path, pair_tokenizer: Mapping[str, str]
) -> None:
    folder = write_run(tmp_path / "tiny", pair_tokenizer, [3, 9], ["stage=pretrain"]).folder
    assert not run_is_finished(folder)
    (folder / "checkpoints" / "pretrain.pt").hardlink_to(checkpoint(folder, 9))
    assert run_is_finished(folder)


def test_the_command_logs_where_the_run_does(
    run: Path,
    suite: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["logging"]["wandb"] = {"project": "mine", "group": "a group"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_DIR", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = ["watch", str(run), "--suite", str(suite), "--interval", "5ba", "--device", "cpu"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^step +(\d+)  toy: accuracy 0\.\d{4} ", said, re.M) == ["6", "9", "15"]
    assert f"3 checkpoints tried, 0 were before: {run / 'tasks.jsonl'}" in said
    expected = [(each.step, each.metrics["accuracy"]) for each in read_task_metrics(run)]
    board = EventAccumulator(str(run / "tensorboard" / "watch"))
    board.Reload()
    found = [(each.step, each.value) for each in board.Scalars("tasks/toy/accuracy")]
    assert found == [(step, pytest.approx(value)) for step, value in expected]
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    records = wandb_records(file)
    (begun,) = (each.run for each in records if each.WhichOneof("record_type") == "run")
    assert (begun.display_name, begun.project, begun.run_group) == ("tiny-watch", "mine", "a group")
    assert logged(records) == [(step, pytest.approx(value)) for step, value in expected]
    assert main([*arguments[:-2], "--once"]) == 0
    assert "0 checkpoints tried, 3 were before" in capsys.readouterr().out


def wandb_records(file: Path) -> list[Record]:
    """All records, once wandb's own process has written the last one."""
    deadline = time.monotonic() + 60
    while not any(each.WhichOneof("record_type") == "exit" for each in written(file)):
        assert time.monotonic() < deadline, "the run was not ended"
        time.sleep(0.1)
    return written(file)


def written(file: Path) -> list[Record]:
    store = DataStore()
    store.open_for_scan(str(file))
    found = []
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        found.append(record)
    return found


def logged(records: list[Record]) -> list[tuple[int, float]]:
    lines = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
        for items in (
            each.history.item for each in records if each.WhichOneof("record_type") == "history"
        )
    ]
    return [(line["step"], line["tasks/toy/accuracy"]) for line in lines]


def test_a_run_that_logs_nowhere_and_one_without_its_recipe_are_watched(
    run: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "config.yaml").unlink()
    arguments = ["watch", str(run), "--suite", str(suite), "--once", "--interval", "9ba"]
    assert main([*arguments, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "config.yaml: cannot be read" in said
    assert not (run / "tensorboard").exists()
    assert [each.step for each in read_task_metrics(run)] == [9, 15]


def test_a_suite_that_does_not_go_with_a_recipe_is_refused_before_training(
    suite: Path, tmp_path: Path, pair_tokenizer: Mapping[str, str]
) -> None:
    tasks = tasks_of(tmp_path, suite)
    recipe = load_recipe(TINY_RECIPE, ["data.path=x"]).first
    tasks.check(recipe, pair_tokenizer)
    with pytest.raises(ConfigError, match=r"evaluation\.suite.*toy.*holds no tokenizer"):
        tasks.check(recipe, {})
    stopping = ["evaluation.early_stopping.metric=toy.f1", f"evaluation.suite.file={suite}"]
    with pytest.raises(ConfigError, match=r"measures no toy\.f1; .*toy\.accuracy"):
        tasks.check(load_recipe(TINY_RECIPE, ["data.path=x", *stopping]).first, pair_tokenizer)


def test_a_plan_says_what_checkpoints_will_be_tried_on(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        f"evaluation.suite={{file: {suite}, mode: fine_tune, overrides: ['defaults.seeds=[1, 2]']}}"
    )
    assert main(["plan", str(TINY_RECIPE), given]) == 0
    assert f"tasks       toy of {suite}: 2 fits at each checkpoint" in capsys.readouterr().out
    assert (
        main(
            [
                "plan",
                str(TINY_RECIPE),
                f"evaluation.suite.file={suite}",
                "evaluation.suite.tasks=[toi]",
            ]
        )
        == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean 'toy'" in line


@pytest.mark.slow
def test_a_run_knows_one_task_by_a_name(run: Path, suite: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    rows = task_node(tmp_path / "more", "classification", train=48)["data"]["train"]
    watch(tasks_of(run, suite))
    # What changes no result is no other task; nor is one of another name, or mode.
    watch(tasks_of(run, suite, overrides=["defaults.microbatch_tokens=999"]))
    watch(tasks_of(run, suite, mode="fine_tune"))
    for changed in (
        f"tasks.toy.data.train={rows}",
        "defaults.probe.l2=[1.0]",
        "defaults.seeds=[3]",
    ):
        with pytest.raises(UserError, match=r"step-00000003.pt was tried on toy .*suite=NAME"):
            tasks_of(run, suite, overrides=[changed])
        watch(tasks_of(run, suite, overrides=[changed, f"suite=suite-{len(changed)}"]))
    # A fine-tuned one depends on what a probe does not, and not the other way round.
    tasks_of(run, suite, overrides=["defaults.epochs=5"])
    with pytest.raises(UserError, match="was tried on toy"):
        tasks_of(run, suite, mode="fine_tune", overrides=["defaults.epochs=5"])
