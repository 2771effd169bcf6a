"""``tasks.jsonl``: what is added is read back, whatever a kill, a disk or another writer does."""

from __future__ import annotations

import json
import math
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from flexbert.errors import UserError
from flexbert.files.durable import WriteError
from flexbert.task_metrics_file import TASKS, TaskMetrics, append, drop_after, read_task_metrics

MEASURED = TaskMetrics(
    stage="decay",
    step=40,
    tokens=4_000,
    checkpoint="step-00000040.pt",
    suite="glue",
    task="mnli",
    mode="frozen",
    fingerprint="0123456789abcdef",
    seeds=(17, 18),
    metrics={"accuracy": 0.61, "f1": 0.5},
    seconds=3.5,
)


def at(step: int, **changes: object) -> TaskMetrics:
    return replace(MEASURED, step=step, checkpoint=f"step-{step:08d}.pt", **changes)


def test_a_line_is_the_contract_and_reads_back(tmp_path: Path) -> None:
    append(tmp_path, MEASURED)
    (line,) = (tmp_path / TASKS).read_text().splitlines()
    assert json.loads(line) == {
        "event": "task",
        "stage": "decay",
        "step": 40,
        "tokens": 4_000,
        "checkpoint": "step-00000040.pt",
        "suite": "glue",
        "task": "mnli",
        "mode": "frozen",
        "fingerprint": "0123456789abcdef",
        "seeds": [17, 18],
        "metrics": {"accuracy": 0.61, "f1": 0.5},
        "seconds": 3.5,
    }
    assert read_task_metrics(tmp_path) == [MEASURED]


def test_nothing_is_known_of_a_run_without_the_file(tmp_path: Path) -> None:
    assert read_task_metrics(tmp_path) == []
    drop_after(tmp_path, 3)
    assert not list(tmp_path.iterdir())


def test_a_metric_that_is_no_number_reads_as_nan(tmp_path: Path) -> None:
    append(tmp_path, replace(MEASURED, metrics={"mcc": math.nan, "loss": math.inf}))
    assert '"metrics": {"mcc": null, "loss": null}' in (tmp_path / TASKS).read_text()
    (found,) = read_task_metrics(tmp_path)
    assert all(map(math.isnan, found.metrics.values()))


def test_the_last_line_of_a_step_suite_task_and_mode_counts(tmp_path: Path) -> None:
    later = at(40, metrics={"accuracy": 0.7}, seeds=(17, 18, 19))
    others = [at(40, suite="mine"), at(40, task="rte"), at(40, mode="fine_tune"), at(20)]
    for measured in (MEASURED, *others, later):
        append(tmp_path, measured)
    found = read_task_metrics(tmp_path)
    assert found[0] == at(20)
    assert len(found) == 5
    assert later in found
    assert MEASURED not in found


def test_a_torn_last_line_is_no_line_and_does_not_spoil_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path, MEASURED)
    with (tmp_path / TASKS).open("a") as file:
        file.write('{"event": "task", "sta')
    assert read_task_metrics(tmp_path) == [MEASURED]
    assert capsys.readouterr().err == ""
    append(tmp_path, at(50))
    assert read_task_metrics(tmp_path) == [MEASURED, at(50)]


def test_bad_lines_lose_themselves_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path, MEASURED)
    (good,) = (tmp_path / TASKS).read_text().splitlines()
    plain = json.loads(good)
    bad = [
        "{",
        "[1]",
        json.dumps({**plain, "event": "eval"}),
        json.dumps({**plain, "metrics": {"accuracy": "high"}}),
        json.dumps({**plain, "metrics": {"accuracy": True}}),
        json.dumps({**plain, "seeds": [1.5]}),
        json.dumps({**plain, "step": -1}),
    ]
    (tmp_path / TASKS).write_text("\n".join([*bad, good]) + "\n")
    assert read_task_metrics(tmp_path) == [MEASURED]
    assert f"{len(bad)} lines are of no task" in capsys.readouterr().err


def test_a_resume_forgets_what_comes_after_its_checkpoint(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        append(tmp_path, at(step))
    drop_after(tmp_path, 20)
    assert [measured.step for measured in read_task_metrics(tmp_path)] == [10, 20]
    drop_after(tmp_path, 20)
    append(tmp_path, at(30, metrics={"accuracy": 0.9}))
    assert read_task_metrics(tmp_path)[-1].metrics == {"accuracy": 0.9}


def test_a_run_that_begins_again_keeps_the_old_file_by_another_name(tmp_path: Path) -> None:
    append(tmp_path, MEASURED)
    drop_after(tmp_path, 0)
    assert read_task_metrics(tmp_path) == []
    assert (tmp_path / f"{TASKS}.damaged").is_file()


def _append_many(folder: Path, task: str) -> None:
    for step in range(1, 41):
        append(folder, at(step, task=task))
        if step % 10 == 0:
            drop_after(folder, 1_000)


def test_writers_at_once_lose_nothing_while_lines_are_dropped(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    tasks = ("mnli", "rte", "sst2")
    writers = [context.Process(target=_append_many, args=(tmp_path, task)) for task in tasks]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = {(measured.step, measured.task) for measured in read_task_metrics(tmp_path)}
    assert found == {(step, task) for step in range(1, 41) for task in tasks}


def test_a_full_disk_is_one_error_and_leaves_whole_lines(small_disk: Path) -> None:
    append(small_disk, MEASURED)
    with pytest.raises(WriteError, match=r"tasks\.jsonl: cannot be written: No space left"):
        append(small_disk, at(50, metrics={"m" * (9 << 20): 0.5}))
    assert (small_disk / TASKS).read_bytes().endswith(b"\n")
    assert read_task_metrics(small_disk) == [MEASURED]


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / TASKS).mkdir()
    with pytest.raises(UserError, match=r"tasks\.jsonl: cannot be read"):
        read_task_metrics(tmp_path)
