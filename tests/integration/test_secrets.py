"""A secret of the environment trains a run, and is in nothing that the run leaves or says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flexbert.checkpoint.checkpoint_file import checkpoint_file, read_checkpoint
from flexbert.commands import main as flexbert
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, Overrides

pytestmark = pytest.mark.slow

SECRET = "hunter2-hunter2"
REFERENCE = "${oc.env:STORE}"


def test_a_run_leaves_no_value_of_the_environment(
    tiny: Overrides,
    corpus: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "store" / SECRET
    shutil.copytree(corpus, store / "corpus")
    monkeypatch.setenv("STORE", str(store))
    overrides = tiny(
        "duration=4ba",
        "schedule={name: constant}",
        "data.num_workers=1",
        f"data.remote={REFERENCE}/corpus",
        f"data.path={tmp_path / 'copy'}",
    )
    run_folder = load_recipe(TINY_RECIPE, overrides).first.run_folder
    for _ in range(2):  # the second one finds all done, its stored recipe the same
        assert train(load_recipe(TINY_RECIPE, overrides), command=["test"]) == DONE
    assert flexbert(["rows", str(run_folder), "3"]) == 0

    left = [file for file in run_folder.rglob("*") if file.is_file()]
    assert {"config.yaml", "manifest.json", "metrics.jsonl"} <= {file.name for file in left}
    assert any(file.parent.name == "orders" for file in left)
    for file in left:
        assert SECRET.encode() not in file.read_bytes(), file
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    recipe = read_checkpoint(checkpoint_file(run_folder)).recipe
    assert recipe["data"]["remote"] == f"{REFERENCE}/corpus"
    assert f"{REFERENCE}/corpus" in (run_folder / "config.yaml").read_text()

    monkeypatch.delenv("STORE")
    assert flexbert(["rows", str(run_folder), "3"]) == 2
    assert "the environment has no variable STORE; set it" in capfd.readouterr().err
