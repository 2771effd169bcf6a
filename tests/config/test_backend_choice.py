"""One attention backend for all layers, or one for each kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flexbert.config.backend_choice import BackendChoice
from flexbert.errors import ConfigError
from flexbert.nn import attention
from flexbert.nn.build import build_model
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE
from tests.nn.cases import attention_config, packed_batch, small_model


@pytest.mark.parametrize(
    ("node", "global_layers", "local_layers"),
    [
        ("sdpa", "sdpa", "sdpa"),
        ({"global": "sdpa"}, "sdpa", "auto"),
        ({"global": "flash_attn_3", "local": "flash_attn_2"}, "flash_attn_3", "flash_attn_2"),
    ],
)
def test_a_choice_is_a_name_or_one_for_each_kind(
    node: Any, global_layers: str, local_layers: str
) -> None:
    choice = BackendChoice.parse(node)
    assert (choice.of("global"), choice.of("local")) == (global_layers, local_layers)
    assert BackendChoice.parse(choice.plain()) == choice


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.attention.backend=7", "model.attention.backend: expected a backend's name"),
        ("model.attention.backend.globl=sdpa", "model.attention.backend: no kind of layer 'globl'"),
        ("model.attention.backend.local=spda", "model.attention.backend: .* did you mean 'sdpa'"),
    ],
)
def test_what_is_no_choice_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(TINY_RECIPE, [override], planning=True)


def test_each_kind_of_layer_calls_its_own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    attend = attention.attend

    def record(*args: Any, **kwargs: Any) -> torch.Tensor:
        called.append((kwargs["window"] is None, kwargs["backend"]))
        return attend(*args, **kwargs)

    monkeypatch.setattr(attention, "attend", record)
    backend = {"global": "reference", "local": "sdpa"}
    build_model(small_model(attention=attention_config(backend=backend)))(packed_batch((9, 30)))
    assert called == [(True, "reference"), (False, "sdpa"), (False, "sdpa"), (True, "reference")]


def test_an_override_of_one_kind_leaves_the_other_to_auto() -> None:
    loaded = load_recipe(TINY_RECIPE, ["model.attention.backend.global=reference"], planning=True)
    assert loaded.resolved["model"]["attention"]["backend"] == {
        "global": "reference",
        "local": "auto",
    }
