from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer import Callback
from composer.utils import dist

from flexbert.config.plugins import Plugin
from flexbert.errors import ConfigError, UserError
from flexbert.train.plugins import check_same_plugins
from flexbert.train.recipe_callbacks import build_callbacks, callback_states, load_callback_states


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


def test_processes_with_different_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: Any = SimpleNamespace(plugins=(Plugin("/a/mine.py", "sha256:1"),))
    check_same_plugins(recipe)
    other = {"plugins": [{"name": "/b/mine.py", "version": "sha256:2"}]}
    monkeypatch.setattr(dist, "all_gather_object", lambda own: [own, other])
    with pytest.raises(UserError, match=r"processes 0 and 1: mine\.py \(sha256:1\) was used"):
        check_same_plugins(recipe)
