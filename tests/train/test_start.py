"""Which checkpoint a launch starts from when some of them are damaged, or cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flexbert.checkpoint import checkpoint_file
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.errors import UserError
from flexbert.files.set_aside import set_aside
from flexbert.recipes import load_recipe
from flexbert.stage_checks import open_corpora
from flexbert.train import run_folder
from flexbert.train.run import DONE, train
from flexbert.train.run_folder import RunFolder, name_stage_end
from flexbert.train.start import Start, find_start
from tests.conftest import TINY_RECIPE, Overrides

pytestmark = pytest.mark.slow


@pytest.fixture
def loaded(tiny: Overrides) -> LoadedRecipe:
    """A run that has three checkpoints, after updates 1 to 3 of 4, and no end of a stage."""
    settings = ("duration=4ba", "schedule={name: constant}", "checkpoints.interval=1ba")
    loaded = load_recipe(TINY_RECIPE, tiny(*settings, "evaluation.interval=4ba"))
    assert train(loaded, command=["test"]) == DONE
    folder = loaded.first.run_folder / "checkpoints"
    list_checkpoints(folder)[-1].unlink()
    return loaded


def start_of(loaded: LoadedRecipe, chosen: tuple[Path, ...] | None = None) -> Start:
    folder = RunFolder(loaded.first.run_folder)
    return find_start(loaded, folder, [open_corpora(loaded.first)], chosen)


def steps(loaded: LoadedRecipe) -> list[Path]:
    return list_checkpoints(loaded.first.run_folder / "checkpoints")


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_one_before_is_used_and_nothing_is_changed(loaded: LoadedRecipe) -> None:
    first, second, third = steps(loaded)
    spoil(third)
    before = {path: path.read_bytes() for path in steps(loaded)}
    start = start_of(loaded)
    assert (start.checkpoint, start.damaged, start.clock.updates) == (second, (third,), 2)
    assert "does not match its hash" in start.notes[0]
    assert "trying the one before" in start.notes[0]
    assert {path: path.read_bytes() for path in steps(loaded)} == before
    # What the first process has chosen is read, and no other.
    chosen = start_of(loaded, chosen=(first,))
    assert (chosen.checkpoint, chosen.damaged, chosen.clock.updates) == (first, (), 1)
    assert start_of(loaded, chosen=()).checkpoint is None


def test_a_learning_rate_that_leaps_up_is_warned_of(loaded: LoadedRecipe, tiny: Overrides) -> None:
    (first, *_, third), lr = steps(loaded), loaded.first.optimizer.lr

    def notes(checkpoint: Path, *more: str) -> str:
        settings = ("run_name=other", f"start_from={checkpoint}", "evaluation.interval=4ba", *more)
        return "\n".join(start_of(load_recipe(TINY_RECIPE, tiny(*settings))).notes)

    constant = "schedule={name: constant}"
    assert "learning rate" not in notes(third, constant, "duration=8ba")
    leap = notes(third, constant, "duration=8ba", f"optimizer.lr={3 * lr}")
    assert f"was {lr:.2g} at the checkpoint and goes on with {3 * lr:.2g}" in leap
    # A decay that begins where it is, is no leap.
    decay = "schedule={name: trapezoidal, warmup: 0ba, decay: 7ba}"
    assert "learning rate" not in notes(first, "duration=8ba", decay)


def test_a_run_sets_the_damaged_one_aside_and_keeps_as_many_as_asked(
    loaded: LoadedRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = loaded.first.run_folder / "checkpoints"
    spoil(steps(loaded)[-1])
    capsys.readouterr()
    assert train(loaded, command=["test"]) == DONE
    assert "step-00000003.pt is kept as step-00000003.pt.damaged" in capsys.readouterr().out
    assert (folder / "step-00000003.pt.damaged").is_file()
    assert [path.name for path in steps(loaded)] == [f"step-0000000{n}.pt" for n in range(1, 5)]


@pytest.mark.parametrize("set_aside_before", [False, True])
def test_a_run_that_has_lost_all_its_checkpoints_does_not_begin_again(
    loaded: LoadedRecipe, set_aside_before: bool
) -> None:
    metrics = (loaded.first.run_folder / "metrics.jsonl").read_bytes()
    for path in steps(loaded):
        spoil(path)
        if set_aside_before:
            set_aside(path)
    with pytest.raises(UserError, match="none of the run's 3 checkpoints can be read") as error:
        train(loaded, command=["test"])
    # The stage's end is the checkpoint that was taken away, under its other name.
    end = loaded.first.run_folder / "checkpoints" / "pretrain.pt"
    assert f"another run_name with start_from={end}, which is of update 4" in str(error.value)
    assert (loaded.first.run_folder / "metrics.jsonl").read_bytes() == metrics
    end.unlink()
    with pytest.raises(UserError, match="give another run_name to begin again"):
        start_of(loaded)


def test_what_cannot_be_read_is_not_called_damaged(
    loaded: LoadedRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = steps(loaded)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_file, "is_as_written", fails)
        with pytest.raises(UserError, match=r"step-00000003\.pt: cannot be read"):
            train(loaded, command=["test"])
    assert steps(loaded) == before
    folder = loaded.first.run_folder / "checkpoints"
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("x")
    with pytest.raises(UserError, match="checkpoints: cannot be read"):
        start_of(loaded)
    folder.unlink()
    folder.symlink_to(folder.with_name("nowhere"))
    with pytest.raises(UserError, match="checkpoints: cannot be read"):
        start_of(loaded)


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
def test_a_stages_end_is_copied_where_there_are_no_links(
    loaded: LoadedRecipe, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError(refusal, os.strerror(refusal))

    folder = loaded.first.run_folder / "checkpoints"
    monkeypatch.setattr(Path, "hardlink_to", refused)
    name_stage_end(folder, "pretrain", 2)
    named, saved = folder / "pretrain.pt", steps(loaded)[1]
    assert named.read_bytes() == saved.read_bytes()
    assert not named.samefile(saved)
    # It is not copied again at every launch.
    monkeypatch.setattr(run_folder, "write_durably", pytest.fail)
    name_stage_end(folder, "pretrain", 2)
    assert not list(folder.glob(".*.tmp"))
