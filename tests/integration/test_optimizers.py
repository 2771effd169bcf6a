"""Every optimizer through a real run: killed, it ends as the uninterrupted one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import all_stages
from tests.conftest import TINY_RECIPE, read_records
from tests.integration.killed_run import KilledRun, assert_same_weights
from tests.integration.launcher import Launcher, read_lines

pytestmark = pytest.mark.slow

EMBEDDING = "groups: [{parameters: encoder.embedding.*, lr_multiplier: 0.5}]"
CASES = {
    "adamw": f"{{name: adamw, lr: 2e-3, clip_norm: 0.5, {EMBEDDING}}}",
    "decoupled_adamw": f"{{name: decoupled_adamw, lr: 2e-3, weight_decay: 1e-4, {EMBEDDING}}}",
    "muon": f"{{name: muon, lr: 2e-3, {EMBEDDING}}}",
}
WEIGHT_DECAY = "weight_decay_schedule={name: trapezoidal, decay: 1dur, decay_shape: linear}"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "muon" else pytest.mark.long) for name in CASES],
)
def test_a_killed_run_ends_as_the_uninterrupted_one(
    launcher: Launcher, corpus: Path, tmp_path: Path, name: str
) -> None:
    settings = [f"optimizer={CASES[name]}", WEIGHT_DECAY, f"data.path={corpus}"]
    whole = KilledRun(launcher, TINY_RECIPE, settings, tmp_path / "whole")
    assert whole.launch() == 0
    killed = KilledRun(launcher, TINY_RECIPE, settings, tmp_path / "killed")
    assert killed.launch(lambda: killed.step_begun(6)) == -signal.SIGKILL
    assert killed.launch() == 0
    assert killed.outcome().records == whole.outcome().records
    assert_same_weights(killed.outcome().weights, whole.outcome().weights)

    (stage,) = all_stages(load_recipe(TINY_RECIPE, settings).stages)
    base = stage.recipe.optimizer.weight_decay
    for line in read_lines(killed.batches):
        clock = stage.clock(0, line["update"])
        rates = {group["lr"] for group in line["groups"]}
        assert rates == {stage.learning_rate(clock) * factor for factor in (0.5, 1)}
        decays = {group["weight_decay"] for group in line["groups"]}
        expected = base * (1 - line["update"] / 12)
        # Divided by the group's lr at the schedule's height, which torch's AdamW multiplies by.
        divisors = (2e-3, 1e-3) if name == "decoupled_adamw" else (1,)
        assert sorted(decays) == pytest.approx([0, *(expected / d for d in divisors)])
    last = read_records(killed.run_folder, "train")[-1]
    assert last["weight_decay"] == pytest.approx(base / 12)
    assert [group["lr"] for group in last["groups"].values()] == [g["lr"] for g in line["groups"]]
    in_recipes_terms = {group["weight_decay"] for group in last["groups"].values()}
    assert sorted(in_recipes_terms) == pytest.approx([0, base / 12])


def test_measures_of_an_update_are_those_of_its_gradients_and_weights(
    launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    """Against the weights of the checkpoints before and after it."""
    settings = [f"data.path={corpus}", "checkpoints.interval=1ba"]
    run = KilledRun(launcher, TINY_RECIPE, settings, tmp_path)
    assert run.launch() == 0
    records = read_records(run.run_folder, "train")
    states = [
        read_checkpoint(file).model for file in list_checkpoints(run.run_folder / "checkpoints")
    ]
    for record, before, after in zip(records[1:], states, states[1:], strict=False):
        moved = torch.cat([(after[k].double() - before[k].double()).flatten() for k in after])
        assert record["update_rms"] == pytest.approx(float(moved.square().mean().sqrt()), rel=1e-5)
        assert record["grad_norm"] > 0


def test_gradients_are_clipped_to_the_norm_asked_for(
    launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    """As AdamW's first moments tell it."""
    norms = {}
    for clip in ("null", "0.01"):
        optimizer = f"optimizer={{name: adamw, lr: 1e-3, betas: [0.0, 0.0], clip_norm: {clip}}}"
        settings = [optimizer, f"data.path={corpus}", "duration=1ba", "schedule={name: constant}"]
        run = KilledRun(launcher, TINY_RECIPE, settings, tmp_path / clip)
        assert run.launch() == 0
        (file,) = list_checkpoints(run.run_folder / "checkpoints")
        training = read_checkpoint(file).training
        assert training is not None
        states = training.optimizer.parameters
        # Without memory the first moment is the gradient that the update was made with.
        total = sum(float(s["exp_avg"].double().square().sum()) for s in states.values())
        norms[clip] = total**0.5
        (record,) = read_records(run.run_folder, "train")
        assert record["grad_norm"] == pytest.approx(norms["null"], rel=1e-5)
    assert norms["null"] > 0.01
    assert norms["0.01"] == pytest.approx(0.01, rel=1e-3)


def test_another_optimizer_in_a_later_stage_begins_its_state_anew(
    launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    settings = [
        f"data.path={corpus}",
        "stages={one: {duration: 8ba}, two: {duration: 8ba}}",
        "stages.two.optimizer={name: adamw, lr: 1e-3}",
    ]
    run = KilledRun(launcher, TINY_RECIPE, settings, tmp_path)
    assert run.launch(lambda: run.step_begun(13)) == -signal.SIGKILL
    assert run.launch() == 0
    last = read_checkpoint(list_checkpoints(run.run_folder / "checkpoints")[-1])
    assert last.training is not None
    assert last.training.optimizer.name == "adamw"
    steps = {float(kept["step"]) for kept in last.training.optimizer.parameters.values()}
    assert steps == {8.0}
