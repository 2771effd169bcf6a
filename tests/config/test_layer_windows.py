from __future__ import annotations

from typing import Any

import pytest

from flexbert.checkpoint.tiling import layer_sources
from flexbert.config.layer_plan import layer_plan
from flexbert.config.layer_windows import LayerWindows
from flexbert.errors import ConfigError
from flexbert.nn.rope import RopeConfig
from flexbert.plan.plan_picture import window_thetas
from tests.nn.cases import attention_config, small_model

G = None
FORMS: dict[str, tuple[Any, list[int | None]]] = {
    "all global": ("global", [G] * 7),
    "all local": (8, [8] * 7),
    "ModernBERT": ({"repeat": ["global", 8, 8]}, [G, 8, 8, G, 8, 8, G]),
    "five local, one global": ({"repeat": [8] * 5 + ["global"]}, [8, 8, 8, 8, 8, G, 8]),
    "every third from the second": ({"repeat": [8, "global", 8]}, [8, G, 8, 8, G, 8, 8]),
    "the first two local": ({"repeat": "global", "0-1": 8}, [8, 8, G, G, G, G, G]),
    "the last global": ({"repeat": 8, "-1": "global"}, [8, 8, 8, 8, 8, 8, G]),
    "two widths": ({"repeat": [8, 8, "global"], "-2--1": 4}, [8, 8, G, 8, 8, 4, 4]),
    "a list": ([4, "global", 8, 8, 8, 4, "global"], [4, G, 8, 8, 8, 4, G]),
    "an entry taken out": ({"repeat": 8, "0": None}, [8] * 7),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_pattern_is_written_in_yaml(form: str) -> None:
    node, expected = FORMS[form]
    windows = LayerWindows.parse(node)
    windows.check(7)
    assert [windows.of(index, 7) for index in range(7)] == expected
    assert windows.distinct == set(expected)
    assert LayerWindows.parse(windows.plain()) == windows


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (7, "must be positive and even, got 7"),
        (0, "must be positive and even, got 0"),
        ("local", "expected 'global' or the width of a window, got 'local'"),
        (None, "expected 'global' or the width"),
        ([], "at least one"),
        ({"0-1": 8}, "give repeat"),
        ({"repeat": [8, True]}, "got True"),
        ({"repeat": 8, "first": "global"}, "expected layers as"),
    ],
)
def test_what_is_no_window_is_refused(node: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LayerWindows.parse(node)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ([8, "global"], "attention.windows: lists 2, and the model has 4 layers"),
        ({"repeat": 8, "4": "global"}, "attention.windows.4: there is no layer 4"),
        (
            {"repeat": 8, "0-2": "global", "-2": 4},
            "attention.windows.-2: layer 2 has a window from '0-2' too",
        ),
        ({"repeat": 8, "0-3": "global"}, "attention.windows.repeat: no layer is left for it"),
    ],
)
def test_windows_that_do_not_fit_the_model_are_refused(node: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_model(num_layers=4, attention=attention_config(windows=node, rope=None, alibi=True))


def two_widths(**changes: Any) -> Any:
    theta = {"global": 3.0, "local": 2.0, "4": 1.0}
    return attention_config(
        windows={"repeat": [8, 8, "global"], "-1": 4}, rope=RopeConfig(theta=theta), **changes
    )


def test_a_base_follows_the_kind_or_the_width_of_a_window() -> None:
    model = small_model(num_layers=5, attention=two_widths())
    assert [layer.theta for layer in layer_plan(model)] == [2.0, 2.0, 3.0, 2.0, 1.0]
    assert window_thetas(model) == {"window 8": 2.0, "global": 3.0, "window 4": 1.0}


def test_a_layer_starts_from_one_of_the_same_window_where_there_is_one() -> None:
    old = small_model(num_layers=4, attention=two_widths())
    new = small_model(num_layers=6, attention=two_widths())
    assert layer_sources(new, old, "same_kind") == (0, 1, 2, 1, 1, 3)
    # No layer of the old model has the width 16: any local one serves.
    wider = small_model(
        num_layers=4, attention=attention_config(windows={"repeat": ["global", 16]})
    )
    assert layer_sources(wider, old, "same_kind") == (2, 1, 2, 3)
