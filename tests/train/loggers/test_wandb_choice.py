"""What Weights & Biases is asked for: what a recipe leaves open, the environment decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flexbert.config.training import WandbConfig
from flexbert.errors import UserError
from flexbert.train.loggers.composers_names import without_composers
from flexbert.train.loggers.wandb_log import choose

FOLDER = Path("runs/one")


@pytest.mark.parametrize(
    ("recipe", "environment", "expected"),
    [
        ({}, {}, {"mode": "online", "project": "flexbert", "folder": FOLDER, "id": None}),
        ({}, {"WANDB_MODE": "offline"}, {"mode": "offline"}),
        ({}, {"WANDB_MODE": "dryrun"}, {"mode": "offline"}),
        ({}, {"WANDB_MODE": ""}, {"mode": "online"}),
        ({}, {"WANDB_MODE": "disabled"}, {"mode": "disabled"}),
        ({}, {"WANDB_DISABLED": "true"}, {"mode": "disabled"}),
        ({}, {"WANDB_DISABLED": "false", "WANDB_MODE": "offline"}, {"mode": "offline"}),
        ({"mode": "online"}, {"WANDB_MODE": "offline", "WANDB_DISABLED": "1"}, {"mode": "online"}),
        ({"mode": "offline"}, {"WANDB_MODE": "what"}, {"mode": "offline"}),
        ({}, {"WANDB_PROJECT": "theirs"}, {"project": "theirs"}),
        ({"project": "mine"}, {"WANDB_PROJECT": "theirs"}, {"project": "mine"}),
        ({}, {"WANDB_DIR": "/scratch"}, {"folder": Path("/scratch")}),
        ({}, {"WANDB_RUN_ID": "abc"}, {"id": "abc"}),
    ],
)
def test_the_recipe_counts_before_the_environment(
    recipe: dict[str, Any], environment: dict[str, str], expected: dict[str, Any]
) -> None:
    choice = choose(WandbConfig(**recipe), environment, FOLDER)
    assert {name: getattr(choice, name) for name in expected} == expected


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"WANDB_MODE: unknown mode 'offlin'; did you mean 'off"):
        choose(WandbConfig(), {"WANDB_MODE": "offlin"}, FOLDER)


def test_what_composer_logs_by_itself_is_left_out_and_callbacks_metrics_are_not() -> None:
    given = {"time/batch": 1, "metrics/web/loss": 2, "loss/train/total": 3, "loss": 4, "lr-x": 5}
    assert without_composers(given) == {"loss": 4, "lr-x": 5}
