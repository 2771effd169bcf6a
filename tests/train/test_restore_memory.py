"""Going on from a checkpoint needs no second copy of anything in it."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer import Timestamp

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.checkpoint.optimizer_state import optimizer_state
from flexbert.config.encode import encode
from flexbert.config.recipe import Recipe
from flexbert.nn.build import build_model
from flexbert.recipes import load_recipe
from flexbert.train.checkpointing import restore
from tests.checkpoint.states import training_state
from tests.conftest import REPOSITORY, TINY_RECIPE

# 24 million parameters: 96 MB, and twice that for the optimizer's moments.
SIZE = (
    "model.hidden_size=512",
    "model.num_layers=4",
    "model.vocab_size=24576",
    "optimizer={name: adamw, lr: 1e-3}",
)


def recipe_of(size: tuple[str, ...] = SIZE) -> Recipe:
    return load_recipe(TINY_RECIPE, ["data.path=none", *size]).first


def save(path: Path, recipe: Recipe) -> None:
    """A checkpoint after one update."""
    model = build_model(recipe.model)
    optimizer = recipe.optimizer.build(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    training = training_state()
    state = optimizer_state(recipe.optimizer.name, model, optimizer)
    write_checkpoint(
        path,
        Checkpoint(
            recipe=encode(recipe),
            tokenizer={},
            model=model.state_dict(),
            training=type(training)(**{**vars(training), "optimizer": state}),
        ),
    )


def restored(path: Path, recipe: Recipe) -> tuple[Any, Any]:
    """The model and the optimizer, after :func:`restore`."""
    model = build_model(recipe.model)
    optimizer = recipe.optimizer.build(model)
    state: Any = SimpleNamespace(optimizers=[optimizer], timestamp=Timestamp())
    run: Any = SimpleNamespace(recipe=recipe)
    base = memory("VmRSS")
    restore(path, state, model, run, {})
    parameters = sum(p.numel() for p in model.parameters())
    # What was there before holds the weights.
    needed = 3 * 4 * parameters
    print((memory("VmHWM") - base + 4 * parameters) / needed)
    return model, optimizer


def memory(name: str) -> int:
    """Bytes, as the kernel counts them; files that are mapped included."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if name in x)
    return int(line.split()[1]) * 1024


def test_no_checkpoint_is_held_after_it_was_applied(tmp_path: Path) -> None:
    recipe = recipe_of(("optimizer={name: adamw, lr: 1e-3}",))
    save(tmp_path / "a.pt", recipe)
    kept = restored(tmp_path / "a.pt", recipe)
    gc.collect()
    held = [found for found in gc.get_objects() if isinstance(found, Checkpoint)]
    # Other tests make some, and read none.
    assert not [checkpoint for checkpoint in held if checkpoint.path is not None]
    # Nor the mapped file behind a tensor that is kept.
    assert "a.pt" not in Path("/proc/self/maps").read_text()
    assert kept


@pytest.mark.slow
def test_peak_memory_is_what_weights_and_optimizer_take(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", recipe_of())
    # In a process of its own, whose memory has not been larger before.
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.test_restore_memory", str(tmp_path / "a.pt")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    ratio = float(done.stdout.split()[-1])
    assert 0.9 < ratio < 1.2


if __name__ == "__main__":
    restored(Path(sys.argv[1]), recipe_of())
