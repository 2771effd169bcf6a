"""What a plan says of checkpoints is what a run writes."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.checkpoint.optimizer_state import optimizer_state
from flexbert.config.encode import encode
from flexbert.config.optimizer import Multipliers
from flexbert.files import free_space
from flexbert.nn.build import build_model
from flexbert.plan import make_plan
from flexbert.plan.checkpoint_sizes import (
    CheckpointRoom,
    StageCheckpoints,
    checkpoint_bytes,
    checkpoint_room,
)
from flexbert.plan.plan_text import plan_text
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.checkpoint.states import training_state
from tests.conftest import TINY_RECIPE, Overrides

OPTIMIZERS = {
    "adamw": "{name: adamw, lr: 1e-3}",
    "stable_adamw": "{name: stable_adamw, lr: 1e-3}",
    "decoupled_adamw": "{name: decoupled_adamw, lr: 1e-3}",
    "muon": "{name: muon, lr: 1e-3}",
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("average", [False, True])
def test_a_checkpoint_is_as_large_as_its_parameters_say(
    tmp_path: Path, optimizer: str, average: bool
) -> None:
    overrides = ["data.path=none", f"optimizer={OPTIMIZERS[optimizer]}", "model.hidden_size=128"]
    overrides += ["moving_average={decay: 0.9}"] if average else []
    recipe = load_recipe(TINY_RECIPE, overrides).first
    model = build_model(recipe.model)
    built = recipe.optimizer.build(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in built.param_groups:
        group.update(recipe.optimizer.hyperparameters(group, Multipliers(lr=1.0)))
    built.step()
    averages = {name: p.detach().clone() for name, p in model.named_parameters()}
    training = training_state(moving_average=averages if average else None)
    state = optimizer_state(recipe.optimizer.name, model, built)
    weights = model.state_dict()
    tree = encode(recipe)
    replaced = type(training)(**{**vars(training), "optimizer": state, "run": tree})
    write_checkpoint(
        tmp_path / "a.pt", Checkpoint(recipe=tree, tokenizer={}, model=weights, training=replaced)
    )
    size = (tmp_path / "a.pt").stat().st_size
    assert checkpoint_bytes(recipe, model) == pytest.approx(size, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "written", "at_once"),
    [
        ("checkpoints={interval: 4ba}", 3, 3),
        ("checkpoints={interval: 5ba}", 3, 3),
        ("checkpoints={interval: 1ba, keep: 2}", 12, 3),
        ("checkpoints={interval: 0.25dur, keep: 1}", 4, 2),
        ("checkpoints={interval: 100ba}", 1, 1),
        ("checkpoints={interval: 1000tok}", 5, 5),
    ],
)
def test_a_run_writes_as_many_and_as_large_checkpoints_as_planned(
    tiny: Overrides, capsys: pytest.CaptureFixture[str], settings: str, written: int, at_once: int
) -> None:
    loaded = load_recipe(TINY_RECIPE, tiny(settings))
    room = make_plan(loaded).checkpoints
    assert (room.written, room.at_once) == (written, at_once)
    assert train(loaded, command=["test"]) == DONE
    assert f"{at_once} checkpoint" in capsys.readouterr().out
    left = list_checkpoints(loaded.first.run_folder / "checkpoints")
    keep = loaded.first.checkpoints.keep
    assert len(left) == (written if keep is None else keep)
    for path in left:
        assert room.largest_bytes == pytest.approx(path.stat().st_size, rel=0.02)


Case = namedtuple("Case", "stages written at_once total")


@pytest.mark.parametrize(
    "case",
    [
        Case([(235, 10, None)], 235, 235, 2350),
        Case([(235, 10, 3)], 235, 4, 40),
        # The first stage's end stays as STAGE.pt.
        Case([(5, 10, 1), (5, 10, 1)], 10, 3, 30),
        Case([(5, 10, 2), (1, 30, 2), (4, 30, 2)], 10, 5, 130),
        Case([(5, 10, None), (5, 10, 1)], 10, 6, 60),
        Case([(1, 10, 5)], 1, 1, 10),
        Case([(10**6, 7, 2), (10**6, 7, 2)], 2 * 10**6, 4, 28),
        # Newest, best, waiting, one in the making.
        Case([(235, 10, 2, 3)], 235, 6, 60),
        Case([(235, 10, 2, 3, 4)], 235, 10, 100),
        Case([(4, 10, 2, 3, 4)], 4, 4, 40),
        # Three best of the first stage and its end, one of the second.
        Case([(50, 10, 1, 3), (50, 20, 1, 1)], 100, 7, 100),
        Case([(50, 10, 1, 1, 2), (50, 20, 1, 1, 2)], 100, 7, 120),
        # What waited of the first stage goes once the second has saved one.
        Case([(50, 10, 1, 0, 5), (50, 20, 1)], 100, 7, 80),
    ],
)
def test_what_is_there_at_once_is_what_is_kept_and_one_in_the_making(
    tmp_path: Path, case: Any
) -> None:
    names = ("count", "bytes_each", "keep", "best", "waiting")
    stages = [StageCheckpoints(**dict(zip(names, values, strict=False))) for values in case.stages]
    room = checkpoint_room(stages, tmp_path)
    assert (room.written, room.at_once, room.total_bytes) == case[1:]


def test_what_the_run_has_written_already_counts_as_room(tmp_path: Path) -> None:
    free = checkpoint_room([StageCheckpoints(count=1, bytes_each=1, keep=None)], tmp_path)
    (tmp_path / "step-00000001.pt").write_bytes(bytes(1 << 20))
    (tmp_path / "pretrain.pt").hardlink_to(tmp_path / "step-00000001.pt")
    after = checkpoint_room([StageCheckpoints(count=1, bytes_each=1, keep=None)], tmp_path)
    assert after.free_bytes is not None
    assert free.free_bytes is not None
    assert abs(after.free_bytes - free.free_bytes) < 1 << 28  # others write there too


def test_a_disk_that_is_too_small_is_warned_of(
    tiny: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_recipe(TINY_RECIPE, tiny())
    assert "warning" not in plan_text(make_plan(loaded))
    monkeypatch.setattr("flexbert.plan.checkpoint_sizes.free_bytes", lambda path: 1000)
    planned = make_plan(loaded)
    assert not planned.checkpoints.fits
    assert "has room for 1.0 kB" in plan_text(planned)
    assert planned.plain()["checkpoints"]["free_bytes"] == 1000


def test_the_text_has_number_size_and_sum() -> None:
    room = CheckpointRoom(
        written=235,
        at_once=235,
        largest_bytes=1_800_000_000,
        total_bytes=423_000_000_000,
        free_bytes=None,
    )
    assert room.text(Path("runs/x")) == "235 checkpoints of 1.8 GB: 423 GB"
    sizes = {5: "5 bytes", 1500: "1.5 kB", 12_345_678: "12 MB", 3.5e12: "3.5 TB"}
    assert {size: free_space.bytes_text(size) for size in sizes} == sizes
