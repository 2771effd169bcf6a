"""What an optimizer's node in a recipe can hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flexbert.config.decode import decode
from flexbert.config.optimizer import GroupConfig, OptimizerConfig
from flexbert.errors import ConfigError
from flexbert.optim.muon import Muon
from flexbert.optim.stable_adamw import StableAdamW
from tests.optim.cases import CONFIGS, Model

STABLE_ADAMW = {"lr": 1e-3, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 1e-5}


def decoded(name: str, **changes: Any) -> OptimizerConfig:
    given = STABLE_ADAMW if name == "stable_adamw" else {"lr": 1e-3}
    return decode(OptimizerConfig, {"name": name, **given, **changes})


def test_groups_are_written_in_yaml() -> None:
    config = decoded("adamw", groups=[{"parameters": "*.bias", "lr_multiplier": 2}])
    assert config.groups == (GroupConfig(parameters="*.bias", lr_multiplier=2.0),)


@pytest.mark.parametrize("key", ["betas", "eps", "weight_decay"])
def test_stable_adamw_has_no_defaults(key: str) -> None:
    node = {"name": "stable_adamw", **STABLE_ADAMW}
    del node[key]
    with pytest.raises(ConfigError, match="is missing") as error:
        decode(OptimizerConfig, node)
    assert error.value.path == key


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("changes", "path", "word"),
    [
        ({"lr": 0}, "lr", "positive"),
        ({"weight_decay": -1}, "weight_decay", "negative"),
        ({"betas": [-0.1, 0.9]}, "betas.0", "at least 0"),
        ({"betas": [0.9, 1.0]}, "betas.1", "below 1"),
        ({"eps": 0}, "eps", "positive"),
        ({"clip_norm": 0}, "clip_norm", "positive"),
        ({"groups": [{"lr_multiplier": 2}]}, "groups.0.parameters", "missing"),
        ({"groups": [{"parameters": "*"}]}, "groups.0.lr_multiplier", "changes nothing"),
        (
            {"groups": [{"parameters": "*", "lr_multiplier": -1}]},
            "groups.0.lr_multiplier",
            "negative",
        ),
        (
            {"groups": [{"parameters": "*", "weight_decay_multiplier": -1}]},
            "groups.0.weight_decay_multiplier",
            "negative",
        ),
        (
            {"groups": [{"parameters": "*", "lr_multiplier": 0, "weight_decay_multiplier": 1}]},
            "groups.0.weight_decay_multiplier",
            "does nothing",
        ),
        (
            {"weight_decay": 0, "groups": [{"parameters": "*", "weight_decay_multiplier": 2}]},
            "groups.0.weight_decay_multiplier",
            "does nothing",
        ),
    ],
)
def test_a_wrong_value_is_refused(name: str, changes: dict[str, Any], path: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as error:
        decoded(name, **changes)
    assert error.value.path == path


@pytest.mark.parametrize(
    ("changes", "path", "word"),
    [
        ({"momentum": 0}, "momentum", "above 0"),
        ({"momentum": 1}, "momentum", "below 1"),
        ({"ns_steps": 0}, "ns_steps", "above 0"),
        ({"ns_steps": 100}, "ns_steps", "below 100"),
        ({"adamw_lr": 0}, "adamw_lr", "positive or null"),
        ({"adjust_lr": "match_rms"}, "adjust_lr", "'match_rms_adamw'"),
    ],
)
def test_a_wrong_value_of_muons_own_is_refused(
    changes: dict[str, Any], path: str, word: str
) -> None:
    with pytest.raises(ConfigError, match=word) as error:
        decoded("muon", **changes)
    assert error.value.path == path


def test_adamw_takes_clipping_as_it_is() -> None:
    assert decoded("adamw", clip_norm=1.0).clip_norm == 1


def test_stable_adamw_is_not_clipped_twice_unawares() -> None:
    with pytest.raises(ConfigError, match="clip_anyway: true") as error:
        decoded("stable_adamw", clip_norm=1.0)
    assert error.value.path == "clip_norm"
    config = decoded("stable_adamw", clip_norm=1.0, clip_anyway=True)
    assert isinstance(config, StableAdamW)
    assert config.clip_norm == 1


def test_clip_anyway_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="does nothing without clip_norm") as error:
        decoded("stable_adamw", clip_anyway=True)
    assert error.value.path == "clip_anyway"


def test_a_torch_without_muon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"torch 2\.9") as error:
        Muon(lr=1e-3).build(Model())
    assert error.value.path == "name"


def test_a_high_decoupled_weight_decay_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(UserWarning, match="weight_decay up to 0.1"):
        decoded("stable_adamw", weight_decay=0.1).build(Model())
    decoded("decoupled_adamw", weight_decay=0.1).build(Model())
    assert "weight_decay=0.1" in caplog.text
