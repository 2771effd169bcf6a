"""Every file of yamls/models, shrunk by overrides, loads, is planned and trains."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flexbert.plan import make_plan
from flexbert.recipes import load_recipe
from flexbert.train.run import train
from tests.conftest import REPOSITORY, VOCAB_SIZE, Overrides, read_records

MODELS = sorted((REPOSITORY / "yamls" / "models").glob("*.yaml"))


def shrunk(path: Path) -> list[str]:
    """The same architecture with small numbers in it."""
    text = "".join(p.read_text() for p in (path, *MODELS) if p.stem.split("-")[0] in path.stem)
    overrides = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "num_layers": 4,
        "attention.num_heads": 4,
        "mlp.intermediate_size": 48,
    }
    if "num_kv_heads" in text:
        overrides["attention.num_kv_heads"] = 2
    return [f"model.{key}={value}" for key, value in overrides.items()]


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_loads_plans_and_trains_two_steps(
    path: Path, tiny: Overrides, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    run = REPOSITORY / "tests" / "integration" / "tiny_run.yaml"
    recipe.write_text(f"include: [{path}, {run}]\n")
    loaded = load_recipe(recipe, tiny(*shrunk(path), "duration=2ba", "schedule={name: constant}"))
    plan = make_plan(loaded, processes=1)
    assert plan.stages[0].length.steps == 2
    assert train(loaded, ["test"]) == 0
    losses = [r["loss"] for r in read_records(loaded.first.run_folder, "train")]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    # An untrained model knows nothing: near the entropy of a uniform guess.
    assert losses[0] == pytest.approx(math.log(VOCAB_SIZE), rel=0.2)
