"""Processes that would train different things do not begin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flexbert.errors import UserError
from flexbert.recipes import load_recipe
from flexbert.train.processes.launch_agreement import (
    recipe_values,
    require_same,
    version_values,
    weight_values,
)
from flexbert.train.processes.peers import Peers
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.train.processes.ranks import on_ranks

BASE = REPOSITORY / "yamls" / "base.yaml"


def agree_on(values: list[dict[str, Any]]) -> list[Any]:
    def work(peers: Peers) -> str:
        require_same(peers, "recipe", lambda: values[peers.rank.rank])
        return "trains"

    return on_ranks(len(values), work)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=2e-3", "optimizer.lr is 0.01 on ranks 0, 2, 0.002 on rank 1"),
        ("seed=6", "seed is 5 on ranks 0, 2, 6 on rank 1"),
        ("data.mask_rate=0.2", "data.mask_rate is 0.3 on ranks 0, 2, 0.2 on rank 1"),
        ("model.attention.rope.theta.global=5", "model.attention.rope.theta.global is"),
        # Operational, and collective all the same.
        ("evaluation.interval=7ba", 'evaluation.interval is "6ba" on ranks 0, 2, "7ba" on rank 1'),
        ("batch.microbatch_rows=1", "batch.microbatch_rows is 2 on ranks 0, 2, 1 on rank 1"),
    ],
)
def test_another_value_on_one_rank_is_named_on_all(override: str, message: str) -> None:
    common = load_recipe(TINY_RECIPE, ["data.path=a"])
    other = load_recipe(TINY_RECIPE, ["data.path=a", override])
    values = [recipe_values(loaded.resolved) for loaded in (common, other, common)]
    for refusal in agree_on(values):
        assert isinstance(refusal, UserError)
        assert message in str(refusal)


def test_every_key_that_differs_is_named_and_no_other() -> None:
    values = [
        recipe_values(load_recipe(TINY_RECIPE, ["data.path=a", *more]).resolved)
        for more in ([], ["seed=6", "duration=9ba"])
    ]
    (refusal, _) = agree_on(values)
    assert str(refusal) == (
        'the processes do not have the same recipe: duration is "12ba" on rank 0, "9ba" on rank 1; '
        "seed is 5 on rank 0, 6 on rank 1"
    )


def test_where_files_lie_is_each_machines_own_affair() -> None:
    own = [
        ["data.path=a", "runs_folder=x", "data.num_workers=0"],
        ["data.path=b", "runs_folder=y", "data.num_workers=2", "data.cache=z"],
    ]
    values = [recipe_values(load_recipe(TINY_RECIPE, one).resolved) for one in own]
    assert agree_on(values) == ["trains", "trains"]


def test_versions_are_compared() -> None:
    mine = version_values()
    assert mine["torch"] == torch.__version__.partition("+")[0]
    (refusal, _) = agree_on([mine, {**mine, "torch": "2.0.0"}])
    assert 'torch is "2.' in str(refusal)
    assert '"2.0.0" on rank 1' in str(refusal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_bit_of_one_weight_is_seen(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Linear(7, 5).to(dtype)
    before = weight_values(model)
    assert before == weight_values(model)
    with torch.no_grad():
        weight = model.weight.view(-1)
        weight[11] = torch.nextafter(weight[11].float(), torch.tensor(9.0)).to(dtype) * (
            1 if dtype == torch.float32 else 1.01
        )
    after = weight_values(model)
    assert after["weight"] != before["weight"]
    assert after["bias"] == before["bias"]
