"""A run whose disk becomes full ends in one line, and goes on from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.files.durable import WriteError
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, read_records

pytestmark = pytest.mark.slow


def run(runs: Path, corpus: Path, *more: str) -> Path:
    given = [f"data.path={corpus}", f"runs_folder={runs}", "checkpoints.interval=1ba", *more]
    loaded = load_recipe(TINY_RECIPE, given)
    assert train(loaded, command=["test"]) == DONE
    return loaded.first.run_folder


def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on(
    small_disk: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4 << 20))
    with pytest.raises(WriteError, match=r"step-\d+\.pt: cannot be written: No space") as error:
        run(small_disk, corpus)
    assert "\n" not in str(error.value)
    assert "warning" in capsys.readouterr().out  # that there would not be room was known
    checkpoints = small_disk / "tiny" / "checkpoints"
    saved = list_checkpoints(checkpoints)
    assert 1 <= len(saved) < 12
    assert sorted(checkpoints.iterdir()) == saved
    for path in saved:
        read_checkpoint(path)

    filler.unlink()
    resumed = run(small_disk, corpus, "checkpoints.keep=2")
    whole = run(tmp_path / "runs", corpus)
    weights, expected = (
        read_checkpoint(list_checkpoints(folder / "checkpoints")[-1]).model
        for folder in (resumed, whole)
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    losses, same = ([r["loss"] for r in read_records(f, "train")] for f in (resumed, whole))
    assert losses == same
