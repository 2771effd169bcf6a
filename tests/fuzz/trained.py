"""A run for fuzz tests to damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE


def trained_all_but_the_end(settings: Sequence[str], folder: Path) -> LoadedRecipe:
    """A run that was trained, without its last checkpoint: a launch has something to do."""
    loaded = load_recipe(TINY_RECIPE, [*settings, f"runs_folder={folder}", "run_name=trained"])
    assert train(loaded, command=["test"]) == DONE
    list_checkpoints(loaded.first.run_folder / "checkpoints")[-1].unlink()
    return loaded
