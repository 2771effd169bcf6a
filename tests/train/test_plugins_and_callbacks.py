from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer import Callback

from flexbert.config.plugins import Plugin
from flexbert.errors import ConfigError, UserError
from flexbert.train.plugin_agreement import check_same_plugins
from flexbert.train.processes.peers import Peers
from flexbert.train.recipe_callbacks import build_callbacks, callback_states, load_callback_states
from tests.train.processes.ranks import on_ranks


class Remembering(Callback):
    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def test_what_callbacks_remember_is_kept_by_name() -> None:
    states = {"a": {"seen": [1, 2.5], "best": torch.ones(2)}, "b": {}}
    kept = callback_states({name: Remembering(state) for name, state in states.items()})
    assert kept.keys() == {"a"}
    new = {"a": Remembering({}), "c": Remembering({})}
    load_callback_states(new, kept)
    assert new["a"].state == states["a"]
    assert new["c"].state == {}


@pytest.mark.parametrize(("odd", "name"), [(Path("x"), "PosixPath"), (object(), "object")])
def test_what_a_checkpoint_cannot_hold_is_refused(odd: Any, name: str) -> None:
    words = rf"callbacks\.mine: its state_dict holds a {name}"
    with pytest.raises(ConfigError, match=words):
        callback_states({"mine": Remembering({"deep": [{"x": odd}]})})


def test_what_is_no_callback_is_refused() -> None:
    recipe: Any = SimpleNamespace(callbacks={"mine": SimpleNamespace(build=lambda folder: 3)})
    with pytest.raises(ConfigError, match=r"callbacks\.mine: builds 3, which is no composer"):
        build_callbacks(recipe, Path())


def test_processes_with_different_files_are_told() -> None:
    def work(peers: Peers, versions: Sequence[str]) -> str:
        version = versions[peers.rank.rank]
        recipe: Any = SimpleNamespace(plugins=(Plugin("/a/mine.py", version),))
        check_same_plugins(recipe, peers)
        return "same"

    assert on_ranks(2, lambda peers: work(peers, ["sha256:1", "sha256:1"])) == ["same", "same"]
    for refusal in on_ranks(2, lambda peers: work(peers, ["sha256:1", "sha256:2"])):
        assert isinstance(refusal, UserError)
        assert "processes 0 and 1: mine.py (sha256:1) was used" in str(refusal)
