"""An optimizer's state saved and loaded."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from flexbert.config.optimizer import GroupConfig
from tests.optim import checkpoints
from tests.optim.cases import CONFIGS, Model, otherwise, train

NUM_STEPS, SAVED = 16, 9
# What optimi keeps on a group beside hyperparameters.
COUNT = {"step", "setup"}


@pytest.mark.parametrize("way", checkpoints.WAYS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(name: str, way: str) -> None:
    groups = (GroupConfig(parameters="embedding.*", lr_multiplier=0.5),)
    config = dataclasses.replace(CONFIGS[name], groups=groups)
    model = Model()
    optimizer = config.build(model)
    train(model, optimizer, config, range(SAVED), NUM_STEPS)
    checkpoint = checkpoints.save(model, optimizer, way)
    train(model, optimizer, config, range(SAVED, NUM_STEPS), NUM_STEPS)

    resumed = Model(seed=1)
    # Built otherwise than the recipe says: only what is set before each update may count.
    optimizer = otherwise(config).build(resumed)
    checkpoints.load(checkpoint, resumed, optimizer, way)
    train(resumed, optimizer, config, range(SAVED, NUM_STEPS), NUM_STEPS)
    for expected, actual in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("way", ["composer", "torch"])
@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_but_the_count_of_a_checkpoints_groups_is_used(name: str, way: str) -> None:
    config, model = CONFIGS[name], Model()
    optimizer = config.build(model)
    train(model, optimizer, config, range(SAVED), NUM_STEPS)
    checkpoint = checkpoints.save(model, optimizer, way)
    for group in checkpoint["optimizer"]["param_groups"]:
        group.update(dict.fromkeys(group.keys() - COUNT - {"params"}, "not this"))

    resumed = Model(seed=1)
    optimizer = config.build(resumed)
    own = [{k: v for k, v in group.items() if k not in COUNT} for group in optimizer.param_groups]
    checkpoints.load(checkpoint, resumed, optimizer, way)
    for before, after in zip(own, optimizer.param_groups, strict=True):
        assert {key: after[key] for key in before} == before
