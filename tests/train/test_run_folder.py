"""The folder of a run: what a relaunch may change and what it forgets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flexbert.errors import UserError
from flexbert.train.run_folder import RunFolder, refuse_changed_recipe


def test_lines_after_the_checkpoint_and_a_half_line_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 1}, after_step=0)
    lines = [json.dumps({"step": step}) for step in (1, 2, 3, 4)]
    folder.metrics.write_text("\n".join(lines) + '\n{"st')
    folder.begin({"seed": 1}, after_step=2)
    assert folder.metrics.read_text() == "\n".join(lines[:2]) + "\n"
    assert yaml.safe_load(folder.config.read_text()) == {"seed": 1}
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "metrics.jsonl"]


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


def test_operational_keys_may_change() -> None:
    old = {"data": {"path": "a", "num_workers": 1}, "batch": {"microbatch_rows": 1}}
    new = {"data": {"path": "b", "num_workers": 4}, "batch": {"microbatch_rows": 8}}
    refuse_changed_recipe(Path("runs/x"), old, new)
