"""The folder of a run: what a relaunch may change and what it forgets."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.errors import UserError
from flexbert.metrics_file import lines_of
from flexbert.recipes import load_recipe
from flexbert.task_metrics_file import append, read_task_metrics
from flexbert.train.run_folder import RunFolder, refuse_changed_recipe
from tests.conftest import TINY_RECIPE
from tests.test_task_metrics_file import MEASURED


def test_lines_after_the_checkpoint_and_a_half_line_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 1}, after_step=0)
    lines = [json.dumps({"step": step}) for step in (1, 2, 3, 4)]
    folder.metrics.write_text("\n".join(lines) + '\n{"st')
    folder.begin({"seed": 1}, after_step=2)
    assert folder.metrics.read_text() == "\n".join(lines[:2]) + "\n"
    assert yaml.safe_load(folder.config.read_text()) == {"seed": 1}
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "metrics.jsonl"]


def test_tasks_after_the_checkpoint_are_dropped_with_the_records(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (2, 4):
        append(tmp_path, replace(MEASURED, step=step))
    folder.begin({"seed": 1}, after_step=2)
    assert [measured.step for measured in read_task_metrics(tmp_path)] == [2]


def test_changed_keys_are_named_with_both_values() -> None:
    old = {"seed": 1, "optimizer": {"name": "a", "lr": 1.0}, "logging": {"interval": "1ba"}}
    new = {"seed": 1, "optimizer": {"name": "b", "eps": 2.0}, "logging": {"interval": "2ba"}}
    with pytest.raises(UserError) as error:
        refuse_changed_recipe(Path("runs/x"), old, new)
    message = str(error.value)
    assert "optimizer.name (a -> b)" in message
    assert "optimizer.lr (1.0 -> none)" in message
    assert "optimizer.eps (none -> 2.0)" in message
    assert "logging" not in message
    assert "start_from=CHECKPOINT" in message


def test_operational_keys_may_change() -> None:
    old = {"data": {"path": "a", "num_workers": 1}, "batch": {"microbatch_rows": 1}}
    new = {"data": {"path": "b", "num_workers": 4}, "batch": {"microbatch_rows": 8}}
    refuse_changed_recipe(Path("runs/x"), old, new)


def test_a_suite_may_change_unless_a_stage_ends_by_its_metric() -> None:
    def resolved(*more: str) -> Mapping[str, Any]:
        return load_recipe(
            TINY_RECIPE, ["data.path=x", "evaluation.suite.file=a.yaml", *more]
        ).resolved

    other = "evaluation.suite.file=b.yaml"
    own, task = (f"evaluation.early_stopping.metric={name}" for name in ("eval_loss", "rte.f1"))
    for more in ([], [own]):
        refuse_changed_recipe(Path("runs/x"), resolved(*more), resolved(*more, other))
    with pytest.raises(UserError, match=r"evaluation\.suite\.file \(a\.yaml -> b\.yaml\)"):
        refuse_changed_recipe(Path("runs/x"), resolved(task), resolved(task, other))


def test_a_key_that_came_later_has_had_its_default() -> None:
    now = load_recipe(TINY_RECIPE, ["data.path=somewhere"]).resolved
    before = copy.deepcopy(now)
    del before["data"]["masking"]
    refuse_changed_recipe(Path("runs/x"), before, now)
    words = ["data.path=somewhere", "data.masking={name: whole_word}"]
    other = load_recipe(TINY_RECIPE, words).resolved
    with pytest.raises(UserError, match=r"changed: data\.masking\.name \(token -> whole_word\)\."):
        refuse_changed_recipe(Path("runs/x"), before, other)


def test_a_bad_line_loses_itself_alone_and_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 1}, after_step=0)
    good = [json.dumps({"step": step}) for step in (1, 2, 3)]
    bad = ['{"step": 1, "lo', "[1, 2]", "3", '{"step": true}', '{"step": -1}', "{}", "\x00" * 9]
    folder.metrics.write_text("\n".join([good[0], *bad, good[1], "[" * 99_999, good[2], ""]))
    whole = folder.metrics.read_bytes()
    folder.begin({"seed": 1}, after_step=2)
    assert folder.metrics.read_text() == "\n".join(good[:2]) + "\n"
    assert (folder.path / "metrics.jsonl.damaged").read_bytes() == whole
    folder.begin({"seed": 1}, after_step=2)
    assert not (folder.path / "metrics.jsonl.damaged-2").exists()


def test_what_is_appended_is_json_and_comes_after_a_half_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 1}\n{"st')
    folder.append_metrics({"step": 2, "loss": math.nan, "more": {"a": [math.inf, 1.5], "b": "é"}})
    folder.flush_metrics()
    *_, last = folder.metrics.read_text().splitlines()

    def no_constant(name: str) -> None:
        raise ValueError(name)

    plain = json.loads(last, parse_constant=no_constant)
    assert plain == {"step": 2, "loss": None, "more": {"a": [None, 1.5], "b": "é"}}
    assert [line.step for line in lines_of(folder.metrics)[0]] == [1, 2]


def test_half_checkpoints_of_a_killed_launch_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for name in (".step-00000003.pt.tmp", ".pretrain.pt.tmp", "step-00000002.pt", "pretrain.pt"):
        (folder.checkpoints / name).write_text("x")
    folder.begin({}, after_step=2)
    left = sorted(path.name for path in folder.checkpoints.iterdir())
    assert left == ["pretrain.pt", "step-00000002.pt"]


def test_the_id_of_a_run_stays_and_is_made_again_where_there_is_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    file = tmp_path / "wandb_id"
    first = folder.wandb_id()
    assert folder.wandb_id() == first == file.read_text()
    file.write_text("my-own_id\n")
    assert folder.wandb_id() == "my-own_id"
    for number, content in enumerate((b"", b"\xff\xfe\x00", b"a/b", b"x" * 200), start=1):
        file.write_bytes(content)
        assert len(folder.wandb_id()) == 16
        assert len(list(tmp_path.glob("wandb_id.damaged*"))) == number
    file.unlink()
    file.mkdir()
    assert len(folder.wandb_id()) == 16


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/run: cannot be made: Not a directory"):
        RunFolder(tmp_path / "file" / "run").begin({}, after_step=0)
