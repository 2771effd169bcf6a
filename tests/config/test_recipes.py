"""The recipes that are shipped, and what a recipe refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flexbert.errors import ConfigError
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY, TINY_RECIPE, completed

SHIPPED = sorted((REPOSITORY / "yamls").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_complete_but_for_its_corpus(path: Path, trained: Path) -> None:
    loaded = load_recipe(path, completed(path, trained), planning=True)
    assert set(loaded.missing) <= {"data.path"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_resolved_recipe_is_the_same_recipe(path: Path, tmp_path: Path, trained: Path) -> None:
    loaded = load_recipe(path, ["data.path=somewhere", *completed(path, trained)])
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(loaded.resolved, sort_keys=False))
    again = load_recipe(config, [])
    assert again.stages == loaded.stages
    assert again.resolved == loaded.resolved


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ("optimizer.lrr=1", "optimizer.lrr", ["'lr'"]),
        ("optimizer.lr=fast", "optimizer.lr", ["a finite number", "'fast'"]),
        ("optimizer.lr=-1", "optimizer.lr", ["positive"]),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas.1", ["below 1"]),
        ("optimizer.eps=0", "optimizer.eps", ["positive"]),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay", ["negative"]),
        ("optimizer.name=stable_adam", "optimizer.name", ["'stable_adamw'"]),
        ("model.block={name: pre_nrom}", "model.block.name", ["'pre_norm'"]),
        ("model.attention.num_heads=3", "model.attention.num_heads", ["divide"]),
        ("model.hidden_size=0", "model.hidden_size", ["positive"]),
        ("batch.size=7", "batch.size", ["nearest: 6 or 8"]),
        ("batch.microbatch_rows=0", "batch.microbatch_rows", ["positive"]),
        ("data.row_length=32", "data.row_length", ["64"]),
        ("data.mask_rate=1.5", "data.mask_rate", ["at most 1"]),
        ("duration=0.5dur", "duration", ["tok or ba"]),
        ("duration=0tok", "duration", ["positive"]),
        ("schedule.warmup=20ba", "schedule.warmup", ["longer together"]),
        ("schedule.decay=100tok", "schedule.decay", ["cannot be placed"]),
        ("schedule.decay=0ba", "schedule.final_fraction", ["would do nothing"]),
        ("schedule.final_fraction=2", "schedule.final_fraction", ["between 0 and 1"]),
        ("schedule.decay_shape=sqrt", "schedule.decay_shape", ["unknown value"]),
        ("evaluation.interval=0ba", "evaluation.interval", ["positive"]),
        ("evaluation.mask_rate=0", "evaluation.mask_rate", ["above 0"]),
        ("evaluation.rows=0", "evaluation.rows", ["positive"]),
        ("checkpoints.keep=0", "checkpoints.keep", ["positive"]),
        ("precision=bf16", "precision", ["'amp_bf16'"]),
        ("run_name=a/b", "run_name", ["names a folder"]),
        ("seed=-1", "seed", ["negative"]),
        ("seed=1.5", "seed", ["an integer"]),
        ("logging.wandb={projekt: x}", "logging.wandb.projekt", ["'project'"]),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_built(
    override: str, path: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(TINY_RECIPE, ["data.path=somewhere", override])
    assert error.value.path == path
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("max_length", "row_length", "size"),
    [(64, 128, 7), (96, 128, 6), (60, 128, 33), (7, 100, 250), (100, 128, 5), (64, 96, 4)],
)
def test_sizes_that_are_suggested_can_be(max_length: int, row_length: int, size: int) -> None:
    lengths = f"data={{max_length: {max_length}, row_length: {row_length}}}"
    with pytest.raises(ConfigError, match="nearest: ") as error:
        load_recipe(TINY_RECIPE, ["data.path=somewhere", lengths, f"batch.size={size}"])
    suggested = str(error.value).rpartition("nearest: ")[2].split(" or ")
    for each in suggested:
        load_recipe(TINY_RECIPE, ["data.path=somewhere", lengths, f"batch.size={each}"])
    assert min(abs(int(each) - size) for each in suggested) <= row_length
